"""polytask pack: any data sets as one HDF5 file that reads fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import say, show
from polytask.cli.options import Config, Overrides, read


def pack(
    config: Config,
    file: Annotated[Path, typer.Argument(metavar="FILE.h5", help="The file to write.")],
    overrides: Overrides = None,
) -> None:
    """Write the data sets of a config into one fast file.

    Pictures are decoded and resized once; labels, splits and places go with them. Training on the
    packed file gives the result of training on the original.
    """
    chosen = read(config, overrides)
    from polytask.config.writing import shown
    from polytask.data.pack import pack as pack_data

    written = pack_data(chosen, file)
    for packed in written:
        for fault in packed.skipped:
            say(f"left out: {fault}")
        count, channels, height, width = packed.shape
        colours = "grey" if channels == 1 else "colour"
        say(f"{packed.name}: {count} images, {width} × {height} pixels, {colours}")
    show("data:")
    for packed in written:
        show(f"  {shown(packed.name)}: {shown(packed.entry)}")

"""polytask pretrain: the pretext tasks of a config on its images, labelled or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show
from polytask.cli.options import (
    Config,
    Devices,
    Out,
    Overrides,
    Overwrite,
    Resume,
    check_start,
    read,
    refuse_torchrun,
)


def pretrain(
    config: Config,
    overrides: Overrides = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="NAME", help="The config's first but single unless said, or hard."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, max=2**31 - 1, metavar="K", help="The config's first unless said."
        ),
    ] = None,
    out: Out = None,
    devices: Devices = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a backbone on pretext tasks alone, without a label.

    Any config may then start from the run folder: backbone: {init: RUN}.
    """
    check_start(resume, overwrite)
    refuse_torchrun("pretrain")
    chosen = read(config, overrides)
    from polytask.report import page_of
    from polytask.training.display import display
    from polytask.training.pretrain import pretrain as train_pretext
    from polytask.training.progress import Progress

    folder = out or Path("runs") / chosen.name
    with display() as shown:
        result = train_pretext(
            chosen,
            method,
            seed=seed,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            devices=devices,
            progress=Progress(shown),
        )
    for task, metrics in result["tasks"].items():
        primary = result["primary"][task]
        show(f"{task}: {primary} {metrics[primary]:.4g} on test images")
    show(f"report: {page_of(folder)}")
    show(f"start from it: backbone.init={folder}")

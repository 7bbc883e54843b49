"""polytask init: a commented config to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import say


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The config to write.")],
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="More data, after --data PATH.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="EXAMPLE", help="The bundled example to start from."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH...", help="Folders and tables to write tasks for."),
    ] = None,
) -> None:
    """Write a commented config to start from.

    It is a copy of a bundled example, digits unless said, or made for your data: folders of images
    by class, zip archives of them, CSV and Parquet tables.
    """
    from polytask.config.starter import start_from_data, start_from_example

    if source is not None and data is not None:
        raise typer.BadParameter("give either --from or --data", param_hint="--from")
    if more and data is None:
        raise typer.BadParameter(f"got {more[0]} after FILE without --data", param_hint="PATH")
    if data is None:
        start_from_example(file, source or "digits")
    else:
        from polytask.data.survey import look_at

        start_from_data(file, look_at([*data, *(more or [])]))
    say(f"wrote {file}; next: polytask check {file}")

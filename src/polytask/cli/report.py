"""polytask report: the page of a run, a comparison or a search, rebuilt from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run, a comparison or a search.")
    ],
) -> None:
    """Rebuild report.html from a folder's files."""
    from polytask.report import report as write

    show(str(write(folder)))

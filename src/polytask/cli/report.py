"""polytask report: the page of a run or comparison, rebuilt from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or comparison folder.")],
) -> None:
    """Rebuild report.html from a folder's files."""
    from polytask.report import report as write

    show(str(write(folder)))

"""polytask check: every label and image of a config's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import say, show, show_json
from polytask.cli.options import Config, Json, Overrides, read


def check(
    config: Config,
    overrides: Overrides = None,
    sheets: Annotated[
        Path | None,
        typer.Option("--show", metavar="DIR", help="Write pictures of a batch with its labels."),
    ] = None,
    json: Json = False,
) -> None:
    """Read every label and image, and report.

    Tells the counts of each class and split, unreadable files, duplicates across splits and the
    like; faults exit with code 2.
    """
    chosen = read(config, overrides)
    from polytask.data.check import check as check_data

    report = check_data(chosen, sheets)
    if json:
        show_json(report.to_json())
    else:
        show(report.to_text())
    for fault in report.faults:
        say(str(fault))
    if report.faults:
        raise typer.Exit(2)

"""Where a command's words go: results to standard output, messages to standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from polytask.json_text import json_text


def say(message: str) -> None:
    """Tell something that is no result, on standard error."""
    print(message, file=sys.stderr, flush=True)


def show(result: str) -> None:
    """Print a result as it is."""
    print(result)


def show_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    print(json_text(document))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal long cells fold, in a pipe every row is one line."""
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            print("  ".join(map(str.ljust, row, widths)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)

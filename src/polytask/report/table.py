"""The main table for a terminal, and as plain text where output is piped."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polytask.report import numbers
from polytask.report.records import MethodResult, Results, TaskFacts

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Grid:
    """A header and rows of text; all columns but the first and the verdict are numbers."""

    header: list[str]
    rows: list[list[str]]
    verdict: int | None


def result_grid(results: Results | Mapping[str, Any]) -> Grid:
    """Methods × tasks, Δm with its interval, verdict and cost, `single` first.

    `results` is the content of `results.json`.
    """
    read = results if isinstance(results, Results) else Results.model_validate(results)
    methods = dict(sorted(read.methods.items(), key=lambda item: item[0] != "single"))
    metrics = {
        task: read.tasks.get(task, TaskFacts()).primary or next(iter(found))
        for method in methods.values()
        for task, found in method.tasks.items()
        if found
    }
    tasks = [f"{task} ({numbers.label(metric)})" for task, metric in metrics.items()]
    header = ["method", *tasks, "Δm % [95 % interval]", "verdict", "params", "MACs"]
    rows = [
        [
            name,
            *(_score(method, task, metric) for task, metric in metrics.items()),
            _gain(method),
            method.verdict.overall.value if method.verdict else "",
            numbers.count(method.cost.total.params if method.cost and method.cost.total else None),
            numbers.count(method.cost.total.macs if method.cost and method.cost.total else None),
        ]
        for name, method in methods.items()
    ]
    return Grid(header, rows, verdict=len(metrics) + 2)


def terminal_table(results: Results | Mapping[str, Any]) -> Table:
    """The main table for a screen; rich fits it to the width."""
    from rich.table import Table
    from rich.text import Text

    grid = result_grid(results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(grid.header):
        left = i in (0, grid.verdict)
        # Text, not markup: a task may be called "[red]".
        table.add_column(Text(name), justify="left" if left else "right", overflow="fold")
    styles = {"helps": "blue", "hurts": "dark_orange"}
    for row in grid.rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    return table


def plain_table(results: Results | Mapping[str, Any]) -> str:
    """The main table as aligned lines that are never wrapped or shortened."""
    grid = result_grid(results)
    widths = [max(map(_width, column)) for column in zip(grid.header, *grid.rows, strict=True)]
    lines = []
    for row in (grid.header, *grid.rows):
        cells = [
            cell + " " * (width - _width(cell))
            if i in (0, grid.verdict)
            else " " * (width - _width(cell)) + cell
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _score(method: MethodResult, task: str, metric: str) -> str:
    spread = method.tasks.get(task, {}).get(metric)
    if spread is None:
        return numbers.ABSENT
    return numbers.mean_std(metric, spread.mean, spread.std, spread.per_seed)


def _gain(method: MethodResult) -> str:
    if method.delta_m is None:
        return ""
    mean = numbers.signed(method.delta_m.mean)
    return f"{mean} {numbers.interval(method.delta_m.ci95)}".rstrip()


def _width(text: str) -> int:
    """Columns of a terminal: East Asian wide letters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )

"""polytask cost: parameters and multiply-accumulates of every method, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.console import show_json, show_table
from polytask.cli.options import Config, Json, Overrides, read
from polytask.errors import UserError, unknown

if TYPE_CHECKING:
    from polytask.cost import Cost

CONVENTIONS = ("plain", "thop_legacy")


def cost(
    config: Config,
    overrides: Overrides = None,
    convention: Annotated[
        str, typer.Option(metavar="|".join(CONVENTIONS), help="What counts as an operation.")
    ] = "plain",
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure one image through every path, on one thread.")
    ] = False,
    json: Json = False,
) -> None:
    """Count parameters and MACs of each method and task.

    A task's figures are those of its path alone; total is one image through everything, with what
    is shared counted once. MACs are the multiply-accumulates of convolutions and linear layers.
    What masks leave of them stands in brackets: a dense kernel computes them all the same.
    """
    if convention not in CONVENTIONS:
        raise UserError(unknown("--convention", "convention", convention, CONVENTIONS))
    chosen = read(config, overrides)
    from polytask.cost import cost_of_config, latencies_of_config

    costs = cost_of_config(chosen, convention)  # type: ignore[arg-type]
    measured = latencies_of_config(chosen) if latency else {}
    if json:
        documents = {name: found.as_dict() for name, found in costs.items()}
        for name, tasks in measured.items():
            for task, milliseconds in tasks.items():
                documents[name]["tasks"][task]["latency_ms"] = milliseconds
        show_json({"methods": documents})
        return
    columns = ["method", "task", "params", "own", "MACs", "units"]
    rows = [row for name, found in costs.items() for row in _rows(name, found)]
    if latency:
        columns.insert(5, "ms")
        for row in rows:
            known = measured[row[0]].get(row[1])
            row.insert(5, "" if known is None else f"{known:#.3g}")
    show_table(columns, rows)


def _rows(method: str, found: Cost) -> list[list[str]]:
    total = found.total
    rows = [[method, "total", f"{total.params:,}", "", f"{total.macs:,}", ""]]
    for task, part in found.tasks.items():
        # Its owner is a task, or what several of them run: "shared", or the tasks of a group.
        shared = sum(unit.owner not in found.tasks for unit in part.units)
        units = f"{shared} shared, {len(part.units) - shared} own"
        params = _left(part.params, part.effective_params)
        macs = _left(part.macs, part.effective_macs)
        rows.append([method, task, params, f"{part.own_params:,}", macs, units])
    return rows


def _left(dense: int, effective: int) -> str:
    """A count, and in brackets what masks leave of it."""
    return f"{dense:,}" + (f" ({effective:,})" if effective < dense else "")

"""polytask cost: parameters and multiply-accumulates of every method, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.console import show_json, show_table
from polytask.cli.options import Config, Json, Overrides
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
    json: Json = False,
) -> None:
    """Count parameters and MACs of each method and task.

    A task's figures are those of its path alone; total is one image through everything, with what
    is shared counted once. MACs are the multiply-accumulates of convolutions and linear layers.
    """
    if convention not in CONVENTIONS:
        raise UserError(unknown("--convention", "convention", convention, CONVENTIONS))
    from polytask.config import read_config
    from polytask.cost import cost_of_config

    costs = cost_of_config(read_config(config, overrides or ()), convention)  # type: ignore[arg-type]
    if json:
        show_json({"methods": {name: found.as_dict() for name, found in costs.items()}})
    else:
        rows = [row for name, found in costs.items() for row in _rows(name, found)]
        show_table(("method", "task", "params", "MACs", "units"), rows)


def _rows(method: str, found: Cost) -> list[list[str]]:
    total = found.total
    rows = [[method, "total", f"{total.params:,}", f"{total.macs:,}", ""]]
    for task, part in found.tasks.items():
        shared = sum(unit.owner == "shared" for unit in part.units)
        units = f"{shared} shared, {len(part.units) - shared} own"
        rows.append([method, task, f"{part.params:,}", f"{part.macs:,}", units])
    return rows

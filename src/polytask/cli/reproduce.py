"""polytask reproduce: the papers' experiments again, measured beside published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli.console import show, show_json, show_table
from polytask.cli.options import Jobs, Json

if TYPE_CHECKING:
    from polytask.reproduce.experiment import Experiment


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="An experiment; all are listed without.")
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="small|paper", help="Minutes here, or as the paper did it.")
    ] = "small",
    is_list: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write; runs/reproduce/NAME_SCALE."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of the experiment's data sets.")
    ] = None,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Repeat an experiment of a paper, beside its published numbers.

    A finished experiment is only shown; one that was stopped goes on. Gains are those over the
    table's first row, paired by seed, with a 95 % interval.
    """
    from polytask.reproduce.experiment import experiments, find
    from polytask.reproduce.repeat import reproduce as repeat

    if is_list or name is None:
        _list(experiments().values(), json)
        return
    experiment = find(name)
    experiment.config(scale, data)  # what is wrong is told before torch is imported
    from polytask.training.display import display

    with display() as shown:
        found = repeat(experiment, scale, out, data, shown, jobs)
    if json:
        show_json(found)
    else:
        _show(found)


def _list(known: Any, json: bool) -> None:
    from polytask.reproduce.repeat import status

    rows: list[dict[str, Any]] = [_facts(one, status(one)) for one in known]
    if json:
        show_json({"experiments": rows})
        return
    shown = ("name", "table", "scales", "status", "paper")
    cells = [{**row, "scales": ", ".join(row["scales"])} for row in rows]
    show_table(shown, [[row[column] for column in shown] for row in cells])


def _facts(one: Experiment, said: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "paper": one.paper,
        "table": one.table,
        "scales": list(one.scales),
        "status": said,
    }


def _show(found: dict[str, Any]) -> None:
    show(f"{found['paper']}, table {found['table']}")
    seeds = ", ".join(map(str, found["seeds"]))
    show(f"scale {found['scale']}, seeds {seeds}, {found['date']}")
    for task, words in found["standing_in"].items():
        show(f"{task}: {words}")
    show("")
    columns = ("task", "method", "published", "measured", "gain, published", "measured", "verdict")
    show_table(columns, [_cells(row) for row in found["rows"]])
    show("")
    means = found["methods"].items()
    show_table(
        ("all tasks", "gain, published", "measured", "verdict"),
        [[row, _gain(f["published_gain"]), _measured(f), f["verdict"]] for row, f in means],
    )
    show("")
    show(f"{found['claim']}: {found['verdict']}")
    show(f"report: {Path(found['folder']) / 'report.html'}")


def _cells(row: dict[str, Any]) -> list[str]:
    said = [row["task"], row["row"], _mean(row["published"]), _mean(row["measured"])]
    if row["verdict"] is None:
        return [*said, "", "", ""]
    return [*said, _gain(row["published_gain"]), _measured(row), row["verdict"]]


def _mean(spread: dict[str, Any]) -> str:
    if spread["mean"] is None:
        return "none"
    std = f" ± {spread['std']:.3f}" if spread["std"] is not None else ""
    return f"{spread['mean']:.3f}{std}"


def _gain(gain: float | None) -> str:
    return "none" if gain is None else f"{gain:+.3f}"


def _measured(found: dict[str, Any]) -> str:
    low_high = "" if found["ci95"] is None else " [{:+.3f}, {:+.3f}]".format(*found["ci95"])
    return f"{_gain(found['gain'])}{low_high}"

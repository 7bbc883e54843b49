"""polytask reproduce: the papers' experiments again, measured beside published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli.console import say, show, show_json, show_table
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
    if found["failed"]:
        failed = ", ".join(found["failed"])
        say(f"failed: {failed}; error.txt in a run's folder tells why. The rest makes the verdict.")
        raise typer.Exit(1)


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
    from polytask.report.published import tables
    from polytask.report.records import Reproduction

    show(f"{found['paper']}, table {found['table']}")
    seeds = ", ".join(map(str, found["seeds"]))
    show(f"scale {found['scale']}, seeds {seeds}, {found['date']}")
    for task, words in found["standing_in"].items():
        show(f"{task}: {words}")
    for head, rows in tables(Reproduction.model_validate(found)):
        show("")
        show_table(head, rows)
    show("")
    show(f"{found['claim']}: {found['verdict']}")
    show(f"report: {Path(found['folder']) / 'report.html'}")

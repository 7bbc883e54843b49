"""polytask search: exits, branch points and thresholds within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from polytask.cli.console import say, show, show_json, show_table
from polytask.cli.options import (
    Config,
    Devices,
    Jobs,
    Json,
    On,
    Out,
    Overrides,
    Overwrite,
    Resume,
    check_start,
    read,
    refuse_torchrun,
)

if TYPE_CHECKING:
    from polytask.search.found import Found


def search(
    config: Config,
    overrides: Overrides = None,
    out: Out = None,
    jobs: Jobs = None,
    devices: Devices = 1,
    on: On = "local",
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Search exits, branch points or thresholds within a budget.

    The config's `search` section says which options of which method, what it may cost and how many
    networks to train: search.budget=35MMAC. Prints the front of score on validation data against
    cost, and writes the best as chosen.yaml, ready to compare.
    """
    check_start(resume, overwrite)
    refuse_torchrun("search")
    chosen = read(config, overrides)
    from polytask.search.run import search as run
    from polytask.training.display import display

    folder = out or Path("runs") / chosen.name
    with display() as shown:
        found = run(
            chosen,
            folder,
            shown,
            jobs,
            resume=resume,
            overwrite=overwrite,
            devices=devices,
            on=on,
        )
    from polytask.report import report

    say(f"page: {report(folder)}")
    if json:
        show_json(found.as_dict())
    else:
        _show(found)
    failed = [trial for trial in found.trials if trial.outcome == "failed"]
    for trial in failed:
        say(f"failed: trial {trial.number}: {trial.reason}")
    if failed or found.chosen is None:
        raise typer.Exit(1)


def _show(found: Found) -> None:
    from polytask.budget import amount

    over = sum(trial.outcome == "over_budget" for trial in found.trials)
    show(f"{len(found.trials)} tried, {over} over the budget; the front, cheapest first:")
    if found.chosen is None:
        say("nothing within the budget was trained; its cheapest combination is told above")
        return
    names = list(found.chosen.values)
    rows = [
        [
            str(trial.number),
            *(str(trial.values[name]) for name in names),
            *(f"{score:.4f}" for score in (trial.tasks or {}).values()),
            f"{trial.score:.4f}",
            amount(trial.cost or 0.0, found.unit),
        ]
        for trial in found.front
    ]
    show_table(("trial", *names, *(found.chosen.tasks or {}), "mean", "cost"), rows)
    chosen = found.folder / "chosen.yaml"
    show(f"chosen: trial {found.chosen.number}, written to {chosen}")
    show(f"compare: polytask compare {chosen}")

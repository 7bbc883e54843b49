"""Repeats an experiment: compares its methods, and keeps what came out beside the numbers."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.reproduce.experiment import Experiment

if TYPE_CHECKING:
    from polytask.training.progress import Show

RUNS = Path("runs/reproduce")
RECORD = "reproduction.json"


def folder_of(experiment: Experiment, scale: str) -> Path:
    """Where an experiment is kept unless said otherwise."""
    return RUNS / f"{experiment.name}_{scale}"


def status(experiment: Experiment) -> str:
    """The verdicts by scale that stand in `runs/reproduce`, or that there is none."""
    said = []
    for scale in experiment.scales:
        try:
            record = json.loads((folder_of(experiment, scale) / RECORD).read_bytes())
            said.append(f"{scale}: {record['verdict']}")
        except (OSError, ValueError, LookupError):
            continue
    return "; ".join(said) or "not run here"


def reproduce(
    experiment: Experiment,
    scale: str = "small",
    out: Path | None = None,
    data: Path | None = None,
    show: Show | None = None,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Run what is left of an experiment and say how it stands beside the paper.

    Raises:
        UserError: the scale or the folder is wrong, or a data set is not there.
    """
    from polytask.compare import compare
    from polytask.compare.comparison import REPORT
    from polytask.report import page_of
    from polytask.reproduce.outcome import outcome
    from polytask.training.checkpoint import write_json

    folder = out or folder_of(experiment, scale)
    results = compare(experiment.config(scale, data), folder, resume=True, progress=show, jobs=jobs)
    try:
        known = json.loads((folder / RECORD).read_bytes())
        date = known["date"]  # of the first time: looking at what is finished does not redate it
    except (OSError, ValueError, LookupError):
        known, date = None, datetime.now(timezone.utc).date().isoformat()
    failed = [run.label for run in results.failures]
    found = outcome(experiment, scale, results.data, date)
    found |= {"failed": failed, "folder": str(folder)}
    if found != known:
        write_json(folder / RECORD, found)
        (folder / REPORT).unlink(missing_ok=True)  # the page is to show it
    page_of(folder)
    return found

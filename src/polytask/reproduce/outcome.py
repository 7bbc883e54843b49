"""Measured beside published: does a method move each task the way its paper says?

What is compared is the gain over the baseline row, in units of the metric and paired by seed: data
and scale differ, so the numbers themselves need not agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from polytask.compare.statistics import t_interval
from polytask.reproduce.experiment import Experiment, Figure

REPRODUCED, INCONCLUSIVE, CONTRADICTED = "reproduced direction", "inconclusive", "contradicted"


def judge(published: float | None, interval: tuple[float, float] | None) -> str:
    """Whether the 95 % interval of a measured gain lies on the published gain's side of 0."""
    if not published or interval is None:
        return INCONCLUSIVE
    low, high = interval if published > 0 else (-interval[1], -interval[0])
    return REPRODUCED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE


def outcome(
    experiment: Experiment, scale: str, results: Mapping[str, Any], date: str
) -> dict[str, Any]:
    """What a finished comparison says of an experiment, as `reproduce --json` prints it."""
    rows = [
        _row(experiment, row, task, metric, figure, results)
        for (row, task, metric), figure in experiment.published.items()
        if task in results["tasks"]
    ]
    claims = {
        row: _claim([found for found in rows if found["row"] == row])
        for row in experiment.methods
        if row != experiment.baseline
    }
    return {
        "name": experiment.name,
        "paper": experiment.paper,
        "table": experiment.table,
        "scale": scale,
        "seeds": results["seeds"],
        "date": date,
        "standing_in": experiment.scale(scale).standing_in,
        "claim": experiment.claim,
        "verdict": claims[experiment.claim]["verdict"],
        "methods": claims,
        "rows": rows,
        "versions": results["versions"],
    }


def _row(
    experiment: Experiment,
    row: str,
    task: str,
    metric: str,
    figure: Figure,
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """A figure of the table; one that the paper quotes, of no method here, has `method` `None`."""
    method = experiment.key(row) if row in experiment.methods else None
    ran = {} if method is None else results["methods"][method]["tasks"]
    spread = ran.get(task, {}).get(metric)
    found: dict[str, Any] = {
        "row": row,
        "method": method,
        "task": task,
        "metric": metric,
        "published": figure._asdict(),
        "measured": spread or {"mean": None, "std": None, "per_seed": []},
        "published_gain": None,
        "gain": None,
        "gains": [],
        "ci95": None,
        "verdict": None,
    }
    base = experiment.published.get((experiment.baseline, task, metric))
    if method is None or row == experiment.baseline or base is None:
        return found
    # A gain is better whichever way the metric points.
    sign = 1 if _is_higher_better(results, task, metric) else -1
    single = results["methods"][experiment.key(experiment.baseline)]["tasks"]
    its_seeds = single.get(task, {}).get(metric, {}).get("per_seed", [])  # none where all failed
    pairs = zip(found["measured"]["per_seed"], its_seeds, strict=False)
    gains = [sign * (own - its) for own, its in pairs if own is not None and its is not None]
    published = None
    if figure.mean is not None and base.mean is not None:
        published = round(sign * (figure.mean - base.mean), 6)
    return {**found, "published_gain": published, **_measured(published, gains)}


def _is_higher_better(results: Mapping[str, Any], task: str, metric: str) -> bool:
    facts = results["tasks"][task]
    return bool(facts["higher_is_better"]) if facts["primary"] == metric else True


def _measured(published: float | None, gains: Sequence[float]) -> dict[str, Any]:
    interval = t_interval(gains)
    return {
        "gain": statistics.fmean(gains) if gains else None,
        "gains": list(gains),
        "ci95": list(interval) if interval else None,
        "verdict": judge(published, interval),
    }


def _claim(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The gain of a method on average over its tasks, seed by seed."""
    known = [row for row in rows if row["gains"]]
    if not known:
        return {"published_gain": None, **_measured(None, [])}
    gains = [row["published_gain"] for row in known]
    published = None if None in gains else round(statistics.fmean(gains), 6)
    seeds = zip(*(row["gains"] for row in known), strict=False)
    return {"published_gain": published, **_measured(published, [*map(statistics.fmean, seeds)])}

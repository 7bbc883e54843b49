"""Gains over single-task networks, paired by seed, with intervals.

Source: Δm is that of Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019; the
interval is Student's t over the paired seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

CONFIDENCE = 0.95
Scores: TypeAlias = Mapping[int, Mapping[str, float | None]]
"""The primary metric of each task, by seed; `None` or absent where there is no score."""


@dataclass(frozen=True)
class Gain:
    """A relative gain in percent of single-task: one value a paired seed, and their mean."""

    per_seed: Mapping[int, float]

    @property
    def seeds(self) -> int:
        """How many seeds are paired."""
        return len(self.per_seed)

    @property
    def mean(self) -> float:
        """The mean over the paired seeds."""
        return statistics.fmean(self.per_seed.values())

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t-interval of the mean; `None` with fewer than two seeds."""
        return t_interval(self.per_seed.values())


@dataclass(frozen=True)
class Gains:
    """What a method gains over single-task networks: per task, and Δm over all that compare."""

    delta_m: Gain | None
    tasks: Mapping[str, Gain] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


@cache
def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The quantile of Student's t that a two-sided interval reaches to."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def t_interval(values: Iterable[float]) -> tuple[float, float] | None:
    """mean ± t·s/√n, or `None` with fewer than two values."""
    sample = list(values)
    if len(sample) < 2:
        return None
    mean = statistics.fmean(sample)
    reach = t_quantile(len(sample) - 1) * statistics.stdev(sample) / math.sqrt(len(sample))
    return mean - reach, mean + reach


def relative_gain(method: float, single: float, higher_is_better: bool) -> float:
    """100·s·(M − M_single)/M_single in percent, s = −1 where lower is better."""
    sign = 1 if higher_is_better else -1
    return 100 * sign * (method - single) / single


def gains(
    method: Scores,
    single: Scores,
    higher_is_better: Mapping[str, bool],
    left_out: Mapping[str, str] | None = None,
) -> Gains:
    """The gains of a method over `single`, seed by seed where both have finished.

    Tasks in `left_out` (with the reason) do not count, nor do tasks without a score or with a
    baseline that nothing can be a percentage of. The same tasks count in every seed.
    """
    seeds = [seed for seed in method if seed in single]
    excluded = dict(left_out or {})
    for task in higher_is_better:
        reason = _no_comparison(task, method, single, seeds)
        if reason and task not in excluded:
            excluded[task] = reason
    per_task = {
        task: Gain(
            {
                seed: relative_gain(_score(method[seed], task), _score(single[seed], task), better)
                for seed in seeds
            }
        )
        for task, better in higher_is_better.items()
        if task not in excluded
    }
    if not seeds or not per_task:
        return Gains(None, {}, excluded)
    mean = {seed: statistics.fmean(g.per_seed[seed] for g in per_task.values()) for seed in seeds}
    return Gains(Gain(mean), per_task, excluded)


def _no_comparison(task: str, method: Scores, single: Scores, seeds: list[int]) -> str:
    for whose, scores in (("single-task", single), ("own", method)):
        if any(not is_score(scores[seed].get(task)) for seed in seeds):
            return f"no {whose} score"
    if any(_score(single[seed], task) <= 0 for seed in seeds):
        return "the single-task score is zero"
    return ""


def is_score(value: float | None) -> bool:
    """Whether a metric's value can be compared."""
    return value is not None and math.isfinite(value)


def _score(scores: Mapping[str, float | None], task: str) -> float:
    value = scores[task]
    assert value is not None  # tasks without a score are left out before
    return value

"""Contenders timed in turn, and what their ratios say about a target.

The machines this runs on are shared: what a step takes swings with its neighbours. Contenders
therefore take turns, seconds are those of the processor, and what counts is the ratio of a round.
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, cycle
from typing import TypeAlias, TypeVar

Clock: TypeAlias = Callable[[], float]
Item = TypeVar("Item")


def in_turn(work: Callable[[Item], object], items: Sequence[Item]) -> Callable[[], object]:
    """`work` on the next item at each call; the items come again and again."""
    return partial(next, map(work, cycle(items)))


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 2,
    clock: Clock = time.process_time,
) -> dict[str, list[float]]:
    """Run each contender once a round, every other round in turned order; seconds by contender."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warm_up, rounds):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            began = clock()
            contenders[name]()
            took = clock() - began
            if number >= 0:
                seconds[name].append(took)
    return seconds


def ratios(ours: Iterable[float], theirs: Iterable[float], expected: float = 1.0) -> list[float]:
    """Ours over theirs, round by round, in multiples of the `expected` ratio."""
    return [mine / other / expected for mine, other in zip(ours, theirs, strict=True)]


def clock_of(device: str) -> Clock:
    """Seconds of the processor; on a GPU those on the wall, once all that it was told is done."""
    return time.process_time if device == "cpu" else _synchronised


def _synchronised() -> float:
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def all_cpu() -> float:
    """Processor seconds of this process and of all its children that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True)
class Target:
    """Where a median must lie: at least `low`, at most `high`."""

    low: float = 0.0
    high: float = math.inf

    def __str__(self) -> str:
        return f"≤ {self.high:g}" if self.high < math.inf else f"≥ {self.low:g}"


@dataclass(frozen=True)
class Result:
    """What `work` took `against` something else: a number a round, in `unit`."""

    work: str
    against: str
    found: Sequence[float]
    target: Target | None = None
    unit: str = "×"

    @property
    def median(self) -> float:
        """The figure that stands for all rounds."""
        return statistics.median(self.found)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the rounds lie between the two."""
        if len(self.found) == 1:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.found, n=4, method="inclusive")
        return low, high

    @property
    def interval(self) -> tuple[float, float]:
        """Holds what the median of endless rounds would be, with 95 % confidence.

        Each round falls on either side of that median like a coin, so that the chance of leaving it
        out with the outermost rounds is binomial. Under six rounds are not enough for 95 %.
        """
        count, ordered = len(self.found), sorted(self.found)
        tails = accumulate(2 * math.comb(count, k) / 2**count for k in range(count // 2))
        left_out = max(0, sum(tail <= 0.05 for tail in tails) - 1)
        return ordered[left_out], ordered[-1 - left_out]

    @property
    def verdict(self) -> str:
        """Whether the target is met; `unclear` where the interval lies on both sides of it."""
        if self.target is None:
            return ""
        low, high = self.interval
        if self.target.low <= low and high <= self.target.high:
            return "met"
        return "missed" if high < self.target.low or low > self.target.high else "unclear"

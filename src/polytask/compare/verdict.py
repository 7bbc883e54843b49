"""Does sharing help? Helps, hurts or unclear, each with its reason in a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from polytask.compare.statistics import Gain

FEWEST_SEEDS = 3
Value = Literal["helps", "hurts", "unclear"]


@dataclass(frozen=True)
class Verdict:
    """What the measurements say, and why."""

    value: Value
    reason: str


@dataclass(frozen=True)
class Sampling:
    """How far the choice of test images alone may move a gain: up to ±`reach` percent.

    `images` is their number, `None` where several test sets are meant.
    """

    reach: float
    images: int | None = None

    @classmethod
    def of_accuracies(cls, method: float, single: float, images: int) -> Sampling:
        """1.96 standard errors of the difference of two proportions, in percent of single-task.

        An upper bound: both networks see the same images, so their errors go together.
        """
        variance = sum(p * (1 - p) / images for p in (method, single))
        return cls(100 * 1.96 * math.sqrt(variance) / single, images)


def judge(
    gain: Gain | None,
    *,
    failures: str = "",
    missing: str = "no score to compare with single-task",
    sampling: Sampling | None = None,
    notes: tuple[str, ...] = (),
) -> Verdict:
    """The verdict on one gain: `unclear` unless a 95 % interval over three seeds excludes 0.

    `failures` says which runs did not finish, `missing` why there is no gain at all, `notes` what
    else a reader must know.
    """
    if gain is None:
        return Verdict("unclear", "; ".join([failures or missing, *notes]))
    value, reason = _by_interval(gain)
    if failures:  # the seeds that did finish are no fair sample of all seeds
        value, reason = "unclear", f"{failures}; the others: {reason}"
    return Verdict(value, "; ".join([reason, *_sampling_note(gain, sampling), *notes]))


def _by_interval(gain: Gain) -> tuple[Value, str]:
    seeds = f"{gain.seeds} seed" + "s" * (gain.seeds != 1)
    if gain.seeds < FEWEST_SEEDS or gain.interval is None:
        average = f"{percent(gain.mean)} on average" if gain.seeds > 1 else percent(gain.mean)
        return "unclear", f"{seeds}, a verdict needs {FEWEST_SEEDS}: {average}"
    low, high = gain.interval
    figures = f"{percent(gain.mean)} [{number(low)}, {number(high)}]"
    if low > 0:
        return "helps", f"{figures} over {seeds}"
    if high < 0:
        return "hurts", f"{figures} over {seeds}"
    return "unclear", f"no difference shown at {seeds}: {figures}"


def _sampling_note(gain: Gain, sampling: Sampling | None) -> list[str]:
    """More seeds do not make a test set larger: say so where that is the larger error."""
    if sampling is None or gain.interval is None:
        return []
    low, high = gain.interval
    if sampling.reach <= (high - low) / 2:
        return []
    images = "the test sets" if sampling.images is None else f"{sampling.images} test images"
    return [f"{images} alone leave up to ±{number(sampling.reach)} %"]


def number(value: float) -> str:
    """A percentage's digits: one decimal, or the first that is not zero; a true minus sign."""
    size = abs(value)
    decimals = -math.floor(math.log10(size)) if 1e-6 <= size < 0.05 else 1
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−" if float(text) else "")


def percent(value: float) -> str:
    """A gain with its sign: +1.8 %."""
    text = number(value)
    return f"{text if text.startswith('−') else '+' + text} %"

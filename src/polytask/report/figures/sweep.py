"""What an option's values do to a score, over the trials of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.report.chart import FONT, Chart, padded, plain, shorten, style
from polytask.report.palette import Look

HEIGHT = 200
LETTERS = 60  # that fit below the axis side by side


def sweep_figure(
    option: str,
    values: Sequence[Any],
    scores: Sequence[float],
    look: Look,
    title: str,
    chosen: int | None = None,
    lower_is_better: bool = False,
) -> str:
    """A mark a trial, and a line through the best trial of every value.

    Args:
        option: whose values the trials differ in.
        values: a trial's value of the option; numbers are put in order, other values as they come.
        scores: a trial's score.
        look: how it is drawn.
        title: what the score is, in words.
        chosen: the number of the trial to stand out.
        lower_is_better: whether the score is an error; the axis points down then.
    """
    order = list(dict.fromkeys(values))
    if all(isinstance(value, int | float) for value in order):
        order.sort()
    places = [order.index(value) for value in values]
    choose = min if lower_is_better else max
    best = [choose(s for s, p in zip(scores, places, strict=True) if p == at) for at in
            range(len(order))]  # fmt: skip
    with style():
        chart = Chart(HEIGHT)
        limits = (-0.5, len(order) - 0.5)
        axes = chart.axes(48, 8, 10, 38, xlim=limits, ylim=padded(scores, by=0.1))
        if lower_is_better:
            axes.invert_yaxis()
        axes.locator_params(nbins=5, axis="y")
        letters = max(3, LETTERS // len(order))
        axes.set_xticks(range(len(order)), [shorten(str(value), letters) for value in order])
        axes.tick_params(labelsize=FONT - 1.5)
        axes.set_xlabel(plain(option))
        axes.plot(range(len(order)), best, color=look.colour, lw=1.5, alpha=0.5)
        for at, (place, score) in enumerate(zip(places, scores, strict=True)):
            size = 9 if at == chosen else 5
            (mark,) = axes.plot(place, score, look.mark, color=look.colour, ms=size)
            chart.tip(mark, f"{option} {values[at]}: {score:.4f}")
        said = [f"{value}: {score:.4f}" for value, score in zip(order, best, strict=True)]
        return chart.svg(f"{title} by {option}, the best of each. " + "; ".join(said))

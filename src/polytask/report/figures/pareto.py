"""Accuracy against multiply–accumulates: which methods no other beats on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polytask.report import numbers
from polytask.report.chart import MUTED, Chart, padded, style
from polytask.report.palette import Look

HEIGHT = 236
# Points closer than this share of the x axis are drawn side by side.
NEAR = 0.02
STEP, WIDEST = 7, 32


@dataclass(frozen=True)
class Point:
    """A method: cost in MACs, score and its spread in the unit it is written in."""

    method: str
    macs: float
    score: float
    std: float | None = None


def frontier(points: Sequence[Point], lower_is_better: bool = False) -> list[Point]:
    """The points that no cheaper or equally cheap point equals or beats, cheapest first."""
    sign = -1 if lower_is_better else 1
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.macs, -sign * p.score)):
        if not best or sign * point.score > sign * best[-1].score:
            best.append(point)
    return best


def pareto_figure(
    points: Sequence[Point],
    looks: Mapping[str, Look],
    unit: str = "%",
    lower_is_better: bool = False,
) -> str:
    """Score over MACs with the Pareto frontier; up is better."""
    from matplotlib.transforms import ScaledTranslation

    spreads = [p.std or 0.0 for p in points]
    scores = [p.score + s for p, s in zip(points, spreads, strict=True)]
    scores += [p.score - s for p, s in zip(points, spreads, strict=True)]
    with style():
        chart = Chart(HEIGHT)
        axes = chart.axes(
            44, 10, 14, 40, ylim=padded(scores, least=0.5 if unit == "%" else 0, by=0.12)
        )
        if lower_is_better:
            axes.invert_yaxis()
        most = max(p.macs for p in points)
        axes.set_xlim(0, 1.13 * most or 1)
        axes.xaxis.set_major_formatter(lambda x, _: numbers.tick(x))
        axes.locator_params(nbins=5)
        axes.set_xlabel("multiply–accumulates for one image")
        best = frontier(points, lower_is_better)
        if len(best) > 1:
            x, y = [p.macs for p in best], [p.score for p in best]
            axes.step(x, y, where="post", color=MUTED, lw=1, ls=(0, (3, 3)), zorder=1)
        for point, shift in zip(points, _shifts(points, NEAR * most), strict=True):
            look = looks[point.method]
            aside = ScaledTranslation(shift / 72, 0, chart.figure.dpi_scale_trans)
            at = axes.transData + aside
            if point.std:
                ends = [point.score - point.std, point.score + point.std]
                axes.plot(
                    [point.macs] * 2, ends, color=look.colour, lw=1.6, alpha=0.6, transform=at
                )
            (mark,) = axes.plot(
                point.macs, point.score, look.mark, color=look.colour, ms=9, transform=at
            )
            chart.tip(mark, _said(point, unit))
        return chart.svg(
            "Score against multiply–accumulates: " + "; ".join(_said(p, unit) for p in points)
        )


def _shifts(points: Sequence[Point], near: float) -> list[float]:
    """How far each point moves sideways so that equal costs do not hide each other."""
    shifts = []
    for i, point in enumerate(points):
        crowd = [j for j, other in enumerate(points) if abs(other.macs - point.macs) <= near]
        step = min(STEP, WIDEST / len(crowd))
        shifts.append(step * (crowd.index(i) - (len(crowd) - 1) / 2))
    return shifts


def _said(point: Point, unit: str) -> str:
    digits = ".1f" if unit else ".3g"
    spread = f" ± {point.std:{digits}}" if point.std else ""
    score = f"{point.score:{digits}}{spread} {unit}".rstrip()
    return f"{point.method}: {score} at {numbers.count(point.macs)}MAC"

"""A task's score under every method: the mean, its spread, and every seed."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.report import numbers
from polytask.report.chart import FONT, GRID, INK, MUTED, Chart, padded, shorten, style
from polytask.report.palette import Look
from polytask.report.records import Spread

ROW = 30


def spread_figure(
    metric: str,
    spreads: Mapping[str, Spread],
    looks: Mapping[str, Look],
    chance: float | None = None,
) -> str:
    """One row per method: a bar over mean ± std, a dot per seed, a line at single's mean.

    The axis does not start at zero, so the bars span the spread and not the way from zero.
    """
    seeds = {
        method: [
            numbers.scaled(metric, x) for x in s.per_seed if x is not None and numbers.known(x)
        ]
        for method, s in spreads.items()
    }
    values = [x for found in seeds.values() for x in found]
    for spread in spreads.values():
        if spread.mean is not None and spread.std is not None:
            ends = (spread.mean - spread.std, spread.mean + spread.std)
            values += [numbers.scaled(metric, end) for end in ends if numbers.known(end)]
    least = 1.0 if numbers.is_percent(metric) else 0.0
    limits = padded(values, least)
    with style():
        chart = Chart(ROW * len(spreads) + 42)
        axes = chart.axes(112, 6, 14, 36, xlim=limits)
        axes.set_ylim(len(spreads) - 0.5, -0.5)
        axes.set_yticks(range(len(spreads)), [shorten(m, 16) for m in spreads], color=INK)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(numbers.label(metric))
        reference = spreads.get("single", Spread()).mean
        if reference is not None and numbers.known(reference):
            at = numbers.scaled(metric, reference)
            axes.axvline(at, color=MUTED, lw=1, ls=(0, (3, 3)))
        if chance is not None and limits[0] < numbers.scaled(metric, chance) < limits[1]:
            at = numbers.scaled(metric, chance)
            axes.axvline(at, color=MUTED, lw=1)
            axes.text(at, -0.45, " chance", size=FONT - 2, color=MUTED, va="top")
        for row, (method, found) in enumerate(seeds.items()):
            axes.axhline(row, color=GRID, lw=0.8, zorder=0)
            if not found:
                axes.text(limits[0], row, " no finished run", color=MUTED, va="center")
                continue
            look, spread = looks[method], spreads[method]
            mean, std = spread.mean, spread.std
            if mean is None:
                continue
            middle = numbers.scaled(metric, mean)
            if std and len(found) > 1:
                half = numbers.scaled(metric, std)
                axes.barh(row, 2 * half, 0.42, middle - half, color=look.colour, alpha=0.28)
            axes.plot([middle] * 2, [row - 0.3, row + 0.3], color=look.colour, lw=3)
            (dots,) = axes.plot(found, [row] * len(found), "o", color=look.colour, ms=5)
            dots.set_markeredgecolor(INK)
            dots.set_markeredgewidth(0.4)
            chart.tip(dots, f"{method}: {_said(metric, spread)}")
        said = "; ".join(f"{m} {_said(metric, s)}" for m, s in spreads.items())
        return chart.svg(f"{numbers.label(metric)} by method: {said}")


def _said(metric: str, spread: Spread) -> str:
    seeds = ", ".join(numbers.score(metric, x) for x in spread.per_seed)
    return f"{numbers.mean_std(metric, spread.mean, spread.std, spread.per_seed)} (seeds: {seeds})"

"""Δm of every method with its interval, against the single-task networks at zero."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.report import numbers
from polytask.report.chart import FONT, GRID, INK, MUTED, Chart, padded, shorten, style
from polytask.report.palette import Look
from polytask.report.records import Gain

ROW = 30


def gain_figure(gains: Mapping[str, Gain], looks: Mapping[str, Look]) -> str:
    """One row per method: the mean gain over single-task networks and its 95 % interval."""
    known = {m: g.mean for m, g in gains.items() if g.mean is not None and numbers.known(g.mean)}
    bounds = {m: _bounds(gains[m]) for m in known}
    values = [0.0, *known.values(), *(v for pair in bounds.values() if pair for v in pair)]
    with style():
        chart = Chart(ROW * len(known) + 44)
        axes = chart.axes(98, 8, 122, 36, xlim=padded(values, least=1.0))
        axes.set_ylim(len(known) - 0.5, -0.5)
        axes.set_yticks(range(len(known)), [shorten(m, 15) for m in known], color=INK)
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=MUTED, lw=1.2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:+g}".replace("-", "−") if x else "0")
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel("gain over single-task, %")
        for row, (method, mean) in enumerate(known.items()):
            look, pair = looks[method], bounds[method]
            axes.axhline(row, color=GRID, lw=0.8, zorder=0)
            if pair:
                axes.plot(pair, [row, row], color=look.colour, lw=5, alpha=0.45)
            (point,) = axes.plot(mean, row, look.mark, color=look.colour, ms=9)
            words = f"{numbers.signed(mean)} {numbers.interval(pair)}".rstrip()
            chart.tip(point, f"{method}: {words} %")
            axes.text(1.04, row, words, size=FONT - 0.5, va="center",
                      transform=axes.get_yaxis_transform())  # fmt: skip
        said = "; ".join(
            f"{m} {numbers.signed(known[m])} % {numbers.interval(bounds[m])}" for m in known
        )
        return chart.svg(f"Mean gain over single-task networks with 95 % intervals: {said}")


def _bounds(gain: Gain) -> tuple[float, float] | None:
    if gain.ci95 is None:
        return None
    low, high = gain.ci95
    if low is None or high is None or not (numbers.known(low) and numbers.known(high)):
        return None
    return low, high

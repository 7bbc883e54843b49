"""How much each task moves the shared weights by epoch, and how much of it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.report.chart import Chart, style
from polytask.report.palette import looks

HEIGHT = 220


def impact_figure(name: str, label: str, curves: Mapping[str, Sequence[float]]) -> str:
    """A line a task, a value an epoch.

    Args:
        name: whose curves these are, as the description tells it.
        label: what the values are.
        curves: the values by task.
    """
    drawn = looks(list(curves))
    said = []
    with style():
        chart = Chart(HEIGHT)
        top = max((max(values) for values in curves.values()), default=0.0)
        axes = chart.axes(52, 10, 14, 40, ylim=(0.0, 1.08 * top or 1.0))
        axes.locator_params(nbins=5, integer=True, axis="x")
        axes.locator_params(nbins=5, axis="y")
        axes.set_xlabel("epoch")
        for task, values in curves.items():
            look = drawn[task]
            epochs = list(range(1, len(values) + 1))
            (line,) = axes.plot(epochs, values, ls=look.dash, color=look.colour, lw=2, marker=None)
            axes.plot(epochs[-1], values[-1], look.mark, color=look.colour, ms=6)
            said.append(f"{task} {values[-1]:.3g} in epoch {epochs[-1]}")
            chart.tip(line, said[-1])
        return chart.svg(f"{label} of {name} by epoch. " + "; ".join(said))

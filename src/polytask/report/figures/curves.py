"""How a task's validation score grows with training, by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.report import numbers
from polytask.report.chart import FONT, MUTED, Chart, padded, style
from polytask.report.palette import Look

HEIGHT = 220


def curve_figure(
    metric: str,
    curves: Mapping[str, Sequence[Mapping[int, float]]],
    looks: Mapping[str, Look],
    chance: float | None = None,
) -> str:
    """Mean over seeds by epoch, with a band from the worst seed to the best.

    Args:
        metric: the metric on the validation split.
        curves: for each method the values by epoch of each seed; epochs may differ.
        looks: how methods are drawn.
        chance: the best constant guess, drawn where it falls inside the figure.
    """
    shown = {
        method: [
            {at: numbers.scaled(metric, x) for at, x in seed.items()} for seed in seeds if seed
        ]
        for method, seeds in curves.items()
    }
    values = [x for seeds in shown.values() for seed in seeds for x in seed.values()]
    values = [x for x in values if numbers.known(x)]
    limits = padded(values, 1.0 if numbers.is_percent(metric) else 0.0, by=0.05)
    said = []
    with style():
        chart = Chart(HEIGHT)
        axes = chart.axes(44, 10, 14, 40, ylim=limits)
        axes.locator_params(nbins=5, integer=True, axis="x")
        axes.locator_params(nbins=5, axis="y")
        axes.set_xlabel("epoch of the task's training")
        if chance is not None and limits[0] < numbers.scaled(metric, chance) < limits[1]:
            at = numbers.scaled(metric, chance)
            axes.axhline(at, color=MUTED, lw=1, ls=(0, (1, 2)))
            axes.text(1, at, "chance", size=FONT - 2, color=MUTED, va="bottom", ha="right",
                      transform=axes.get_yaxis_transform())  # fmt: skip
        for method, seeds in shown.items():
            if not seeds:
                continue
            epochs, low, mean, high = _band(seeds)
            last = sum(epochs[-1] in seed for seed in seeds)  # others may have stopped early
            look = looks[method]
            if len(seeds) > 1:
                axes.fill_between(epochs, low, high, color=look.colour, alpha=0.15, lw=0)
            (line,) = axes.plot(epochs, mean, ls=look.dash, color=look.colour, lw=2)
            axes.plot(epochs[-1], mean[-1], look.mark, color=look.colour, ms=6)
            final = numbers.score(metric, mean[-1] / numbers.scaled(metric, 1))
            said.append(f"{method}: {final} after {epochs[-1]} epochs, mean of {last} seed(s)")
            chart.tip(line, said[-1])
        return chart.svg(f"{numbers.label(metric)} on validation data by epoch. " + "; ".join(said))


def _band(
    seeds: Sequence[Mapping[int, float]],
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Epochs, and the least, mean and largest value of the seeds that were scored after each."""
    epochs = sorted(set().union(*seeds))
    at = [[seed[epoch] for seed in seeds if epoch in seed] for epoch in epochs]
    return epochs, [min(a) for a in at], [sum(a) / len(a) for a in at], [max(a) for a in at]

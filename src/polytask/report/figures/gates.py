"""A feature filter after training: how far α and β moved, and what its gate lets through."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.report.chart import FONT, INK, MUTED, Chart, padded, style
from polytask.report.palette import Look
from polytask.report.records import FilterRecord

HEIGHT = 168
BINS = 24


def gate_figure(record: FilterRecord, look: Look) -> str:
    """Left: histograms of α and β over channels. Right: of gate values over images."""
    alpha, beta = record.alpha, record.beta
    limits = padded([*alpha, *beta], least=0.1)
    edges = [limits[0] + (limits[1] - limits[0]) * i / BINS for i in range(BINS + 1)]
    with style():
        chart = Chart(HEIGHT)
        left = chart.axes(6, 24, 198, 40, xlim=limits)
        right = chart.axes(196, 24, 10, 40, xlim=(0, 1))
        for axes, title, label in (
            (left, "α and β", f"value, {len(alpha)} channels"),
            (right, "gate values", "0 closed, 1 open"),
        ):
            axes.set_title(title, size=FONT, color=INK, pad=8, loc="left")
            axes.set_xlabel(label)
            axes.set_yticks([])
        left.locator_params(axis="x", nbins=3)
        right.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        steps = [_counts(values, edges) for values in (alpha, beta)]
        fill = left.stairs(steps[0], edges, fill=True, color=look.colour, alpha=0.45)
        chart.tip(fill, f"α: {_said(alpha)}")
        line = left.stairs(steps[1], edges, color=INK, lw=1.6)
        chart.tip(line, f"β: {_said(beta)}")
        counts = record.gates.counts
        gates = [i / len(counts) for i in range(len(counts) + 1)]
        bars = right.stairs(counts, gates, fill=True, color=look.colour, alpha=0.75)
        mean = record.gates.mean
        opened = "" if mean is None else f"gate: mean {mean:.3f}"
        chart.tip(bars, opened or "gate values")
        right.axvline(0.5, color=MUTED, lw=1, ls=(0, (3, 3)))
        return chart.svg(f"Feature filter: α {_said(alpha)}; β {_said(beta)}; {opened}")


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    counts = [0] * (len(edges) - 1)
    width = edges[1] - edges[0]
    for value in values:
        counts[min(int((value - edges[0]) / width), len(counts) - 1)] += 1
    return counts


def _said(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f"mean {mean:+.3f}, from {min(values):+.3f} to {max(values):+.3f}"

"""A matrix as a heat map: what columns take from each other, how much of a layer is shared."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.report.chart import FONT, INK, MUTED, Chart, shorten, style
from polytask.report.palette import Look

LABEL, TOP, ROW = 112, 30, 24
MOST_IN_WORDS = 8  # columns; numbers in narrower cells would run into each other


def matrix_figure(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    look: Look,
    title: str,
    unit: str = "",
    most: float | None = None,
) -> str:
    """Cells as dark as their value is far from 0.

    Args:
        rows: a label a row, from the top.
        columns: a label a column.
        values: [rows, columns].
        look: whose colour the cells have.
        title: what is shown, in words.
        unit: behind a value in its tooltip.
        most: the value of the darkest cells; the greatest that there is unless given.
    """
    from matplotlib.patches import Rectangle

    most = most or max((abs(x) for row in values for x in row), default=0.0) or 1.0
    with style():
        chart = Chart(TOP + ROW * len(rows) + 6)
        axes = chart.axes(LABEL, TOP, 6, 6, xlim=(0, len(columns)), ylim=(len(rows), 0))
        axes.grid(visible=False)
        axes.xaxis.tick_top()
        step = max(1, -(-len(columns) // MOST_IN_WORDS))
        letters = max(3, 40 // min(len(columns), MOST_IN_WORDS))
        shown = range(0, len(columns), step)
        axes.set_xticks([x + 0.5 for x in shown], [shorten(columns[x], letters) for x in shown])
        axes.set_yticks([y + 0.5 for y in range(len(rows))], [shorten(r, 16) for r in rows])
        axes.tick_params(labelsize=FONT - 1.5)
        for y, (name, row) in enumerate(zip(rows, values, strict=True)):
            for x, value in enumerate(row):
                cell = Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, facecolor=look.colour)
                cell.set_alpha(0.08 + 0.72 * abs(value) / most)
                cell.set_linewidth(0)
                axes.add_patch(cell)
                chart.tip(cell, f"{name}, {columns[x]}: {value:.3f}{unit}")
                if len(columns) <= MOST_IN_WORDS:
                    colour = MUTED if value < 0 else INK
                    axes.text(x + 0.5, y + 0.5, f"{value:.2f}", size=FONT - 2, color=colour,
                              ha="center", va="center")  # fmt: skip
        return chart.svg(f"{title}. " + "; ".join(_said(rows, columns, values)))


def _said(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]
) -> list[str]:
    """The matrix in words; of a wide one the first and the last column."""
    at = range(len(columns)) if len(columns) <= MOST_IN_WORDS else (0, len(columns) - 1)
    return [
        f"{name}: " + ", ".join(f"{columns[x]} {row[x]:.2f}" for x in at)
        for name, row in zip(rows, values, strict=True)
    ]

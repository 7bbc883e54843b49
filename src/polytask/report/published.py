"""What a paper printed beside what was measured, as cells of text."""

from __future__ import annotations

from polytask.report.records import Figure, Measured, Reproduction

HEAD = ("task", "method", "published", "measured", "gain, published", "measured", "verdict")
MEANS = ("all tasks", "gain, published", "measured", "verdict")


def tables(found: Reproduction) -> list[tuple[tuple[str, ...], list[list[str]]]]:
    """Heads and rows: each task and method of the paper's table, then methods over all tasks."""
    rows = [
        [
            row.task,
            row.row,
            _figure(row.published),
            "not run" if row.method is None else _figure(row.measured),
            *(["", "", ""] if row.verdict is None else _gains(row)),
        ]
        for row in found.rows
    ]
    return [(HEAD, rows), (MEANS, [[name, *_gains(it)] for name, it in found.methods.items()])]


def _gains(found: Measured) -> list[str]:
    said = _gain(found.gain)
    if found.ci95 is not None:
        said += " [{:+.3f}, {:+.3f}]".format(*found.ci95)
    return [_gain(found.published_gain), said, found.verdict or ""]


def _figure(spread: Figure) -> str:
    if spread.mean is None:
        return "none"
    return f"{spread.mean:.3f}" + (f" ± {spread.std:.3f}" if spread.std is not None else "")


def _gain(gain: float | None) -> str:
    return "none" if gain is None else f"{gain:+.3f}"

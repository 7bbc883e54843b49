"""A page of its own for measured affinities: who helps whom, and which tasks to group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.report.figures.matrix import matrix_figure
from polytask.report.frame import figures, framed, line
from polytask.report.palette import looks


def affinity_page(found: Mapping[str, Any], certainty: str, method: str) -> str:
    """The page as HTML.

    Args:
        found: what `polytask affinity --json` prints.
        certainty: how much of it can be told from chance.
        method: the line of a config that takes the proposal up.
    """
    tasks = list(found["tasks"])
    look = looks(["affinity"])["affinity"]
    percent = [[100 * value for value in row.values()] for row in found["look_ahead"].values()]
    cosine = [list(row.values()) for row in found["cosine"].values()]
    drawn = [
        (
            "Look-ahead",
            "percent of a column's loss that a step for the row takes away; below 0 it harms",
            matrix_figure(tasks, tasks, percent, look, "Look-ahead affinity", " %"),
        ),
        (
            "Cosine",
            "of the gradients of two tasks",
            matrix_figure(tasks, tasks, cosine, look, "Cosine of gradients"),
        ),
    ]
    return framed(
        f"Affinity of {', '.join(tasks)}",
        "Which tasks help which",
        "Train together: " + "; ".join(" + ".join(group) for group in found["groups"]),
        f"One network that learns all tasks, {certainty}.",
        figures(drawn) + "\n" + line(method),
    )

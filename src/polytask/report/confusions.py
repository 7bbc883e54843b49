"""Confusion matrices of a folder's methods, all seeds together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from polytask.report.figures.matrix import matrix_figure
from polytask.report.folder import Folder, Run
from polytask.report.palette import Look

MOST_CLASSES = 20


def confusion_figures(folder: Folder, method: str, look: Look) -> Iterator[tuple[str, str]]:
    """(what it shows, SVG) for every task of a method that has a confusion matrix."""
    runs = folder.runs[method]
    for task in dict.fromkeys(t for run in runs if run.confusion for t in run.confusion.tasks):
        classes, counts = _added_up(runs, task)
        kept = _most_confused(counts)
        names = [classes[k] for k in kept]
        rows = [_shares([counts[i][k] for k in kept], sum(counts[i])) for i in kept]
        title = f"{task}: a row is a true class, a column what it was taken for"
        less = f", {len(kept)} of {len(classes)} classes" if len(kept) < len(classes) else ""
        yield f"{task}{less}", matrix_figure(names, names, rows, look, title, " of the true class")


def _added_up(runs: Sequence[Run], task: str) -> tuple[list[str], list[list[int]]]:
    """The classes of the first run, and the counts of all runs that have the same."""
    found = [r.confusion.tasks[task] for r in runs if r.confusion and task in r.confusion.tasks]
    same = [each.counts for each in found if each.classes == found[0].classes]
    added = [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*same, strict=True)]
    return found[0].classes, added


def _most_confused(counts: Sequence[Sequence[int]]) -> list[int]:
    """All classes, in order; of many those with the most mistakes."""
    wrong = [
        sum(row) - 2 * row[k] + sum(other[k] for other in counts) for k, row in enumerate(counts)
    ]
    worst = sorted(range(len(counts)), key=lambda k: -wrong[k])[:MOST_CLASSES]
    return sorted(worst)


def _shares(counts: Sequence[int], total: int) -> list[float]:
    return [count / total if total else 0.0 for count in counts]

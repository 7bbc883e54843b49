"""What `polytask check` found, as text for a terminal and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from polytask.data.images import SPLITS
from polytask.errors import Fault


@dataclass
class TaskCheck:
    """The labels of a task: how many of each split's images, and how many of each class.

    Counts are by split; `used` are the training images that the fraction leaves.
    """

    kind: str
    labelled: dict[str, int]
    classes: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class DataCheck:
    """A data set: its images, their splits and sizes [width, height], and the tasks' labels."""

    source: str
    images: int
    splits: dict[str, int]
    fraction: float
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    sizes: int
    grey: int
    unreadable: int
    changed: dict[str, int]
    tasks: dict[str, TaskCheck]


@dataclass
class CheckReport:
    """Every data set by name; `faults` stop training, `notes` are worth a look."""

    data: dict[str, DataCheck] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return asdict(self)

    def to_text(self) -> str:
        """The report as lines; faults are counted, being the error messages of the command."""
        lines = [
            line for name, data in self.data.items() for line in [*_data_lines(name, data), ""]
        ]
        if self.notes:
            lines += ["worth a look:", *(f"  {note}" for note in self.notes), ""]
        count = len(self.faults)
        return "\n".join([*lines, f"{count} fault{'' if count == 1 else 's'}"])


def _data_lines(name: str, data: DataCheck) -> Iterator[str]:
    yield f"{name} ({data.source}): {data.images} images, {_sizes(data)}, {_colours(data)}"
    if not data.splits:
        return
    columns = list(data.splits)
    if "used" in columns:
        yield f"  used: what fraction {data.fraction:g} leaves of train"
    yield from _table(["", *columns], [["images", *_cells(data.splits, columns)]])
    for task, check in data.tasks.items():
        yield f"  task {task} ({check.kind})"
        rows = [["labelled", *_cells(check.labelled, columns)]]
        rows += [[label, *_cells(counts, columns)] for label, counts in check.classes.items()]
        yield from _table(["", *columns], rows)


def _sizes(data: DataCheck) -> str:
    if data.smallest is None or data.median is None or data.largest is None:
        return "none readable"
    small, middle, large = (f"{w} × {h}" for w, h in (data.smallest, data.median, data.largest))
    if data.sizes == 1:
        return f"{small} pixels"
    return f"{data.sizes} sizes from {small} to {large} (median {middle}) pixels"


def _colours(data: DataCheck) -> str:
    colour = data.images - data.unreadable - data.grey
    counts = {"colour": colour, "grey": data.grey, "unreadable": data.unreadable}
    there = {what: count for what, count in counts.items() if count}
    if len(there) == 1:
        return next(iter(there))
    return ", ".join(f"{count} {what}" for what, count in there.items())


def _cells(counts: Mapping[str, int], columns: Sequence[str]) -> list[str]:
    return [str(counts[column]) for column in columns]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for first, *others in (header, *rows):
        right = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "    " + "  ".join([first.ljust(widths[0]), *right])


def split_columns(fraction: float) -> list[str]:
    """The columns of counts: the splits, and `used` after train where a fraction is taken."""
    train, *others = SPLITS
    return [train, *(["used"] if fraction < 1 else []), *others]

"""Reading label cells: which column, what a cell says, and every fault with its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.data.images import ImageSet
from polytask.errors import DataError, Fault, capped, nearest, one_of


def cells_of(images: ImageSet, column: str, task: str) -> list[Any]:
    """The cells of a column; a `DataError` names the nearest column when there is none."""
    if column in images.columns:
        return images.columns[column]
    raise DataError(
        Fault(
            f"tasks.{task}.label",
            f'data set "{images.name}" has no column "{column}"; '
            f"expected {one_of(images.columns)}.",
            nearest(column, images.columns),
        )
    )


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise all faults at once, if there are any."""
    if faults:
        raise DataError(capped(faults))


def class_names(cells: Sequence[Any]) -> list[str]:
    """The distinct classes of a column: numbers in numeric, text in alphabetical order."""
    found = {str(cell) for cell in cells if cell is not None}
    if all(name.lstrip("-").isdigit() for name in found):
        return sorted(found, key=int)
    return sorted(found)

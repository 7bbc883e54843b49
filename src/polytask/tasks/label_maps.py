"""Label maps: a number, or three, at every pixel of an image, from a file or an array.

A file is a PNG of 8 or 16 bits (TIFF and PGM too) or an NPY array; pixels keep the values that are
written there. The task says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from polytask.data.images import ImageSet
from polytask.data.store import THREADS
from polytask.errors import DataError, Fault
from polytask.tasks.columns import cells_of, raise_faults
from polytask.tasks.task import Labels


def read_cells(images: ImageSet, column: str, task: str, what: str) -> Labels:
    """The cells of a column of label maps: paths, bytes or arrays, `None` where there is none.

    Raises:
        DataError: the column is missing, or cells are text that names no file (all of them).
    """
    cells = cells_of(images, column, task)
    raise_faults(
        [
            Fault(
                images.place(i),
                f'{column}: no image file "{cell}"; expected the path of a {what}.',
                "Paths are relative to the manifest's folder and stay inside it.",
            )
            for i, cell in enumerate(cells)
            if isinstance(cell, str | int | float)
        ]
    )
    return Labels(cells, np.array([cell is not None for cell in cells]))


def each_map(rows: Sequence[int], read: Callable[[int], None]) -> None:
    """Call `read` for every row, in threads, and raise the faults of all at once."""

    def fault(i: int) -> Fault | None:
        try:
            read(i)
        except DataError as error:
            return error.faults[0]
        return None

    with ThreadPoolExecutor(THREADS) as threads:
        raise_faults([found for found in threads.map(fault, rows) if found is not None])


def check_size(found: np.ndarray, image: Sequence[int], place: str, column: str, what: str) -> None:
    """Refuse a map [H, W, …] whose image has another (height, width)."""
    height, width = found.shape[:2]
    if (height, width) != tuple(image):
        raise DataError.at(
            place,
            f"{column}: the {what} has {width} × {height} pixels, its image "
            f"{image[1]} × {image[0]}; expected the same.",
        )

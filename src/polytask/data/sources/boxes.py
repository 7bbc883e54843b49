"""Boxes in a CSV table, a row each, beside their images in a folder or zip archive.

Source: your own files.

The table is `boxes.csv` (or the one that `table` names), with columns `image` (or `name`,
`filename`), `class` (or `label`) where there is more than one, and the edges `x0`, `y0`, `x1` and
`y1` (or `xmin`, `ymin`, `xmax`, `ymax`) in pixels. An `index.csv` of `image` and, each optional,
`split`, `width` and `height` lists the images; those without a row hold nothing. Without an index
these are the images that the table names: a row of no box is one with nothing on it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from polytask.data.files import Found, find_images, find_texts, locate, shown
from polytask.data.images import SPLITS, ImageSet
from polytask.data.objects import Object, as_box, object_classes, object_columns
from polytask.data.source import Source
from polytask.data.table import Table, read_table
from polytask.errors import DataError, Fault, capped, one_of

IMAGES = ("image", "name", "filename")
CLASSES = ("class", "label")
EDGES = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
INDEX = "index.csv"
OBJECT = "object"  # the class of everything, where a table names none


class Boxes(Source):
    """Columns `boxes`; `class`, `x0`, `y0`, `x1`, `y1` of the largest box; 0 or 1 for each class.

    Splits are those of a column `split` of the index or of the table, else they are made.
    """

    path: Path = Field(description="folder or zip archive")
    table: str = Field("boxes.csv", description="file name of the table")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        texts = {below.name: (below, text) for below, text in find_texts(root, (".csv",)).items()}
        if self.table not in texts:
            raise DataError.at(str(root), f"holds no {self.table}.", "table: FILE names another.")
        rows = _read(root, *texts[self.table])
        index = _read(root, *texts[INDEX]) if INDEX in texts and self.table != INDEX else rows
        files = _Files(find_images(root))
        faults: list[Fault] = []
        listed: dict[str, int] = {}
        for i, cell in enumerate(_column(index, IMAGES)):
            if files.find(cell) is None:
                faults.append(Fault(index.places[i], f"there is no image {cell}."))
            listed.setdefault(str(cell), i)
        objects = _objects(rows, index, listed, faults)
        splits = _splits(index, listed, faults)
        if faults:
            raise DataError(capped(faults))
        found = [files.find(cell) for cell in listed]
        there = [image for image in found if image is not None]
        classes = sorted({thing[0] for things in objects.values() for thing in things})
        return ImageSet(
            name,
            images=[image.image for image in there],
            columns=object_columns([*objects.values()], classes, [{}] * len(there)),
            splits=splits,
            places=[shown(root, image) for image in there],
            default_label="class",
            classes=object_classes(classes),
        )


class _Files:
    """Images by their path below the root, their name, and their name without its suffix."""

    def __init__(self, found: list[Found]) -> None:
        self._known = {key: f for f in found for key in (f.below.stem, f.below.name, str(f.below))}

    def find(self, cell: Any) -> Found | None:
        path = PurePosixPath(str(cell).replace("\\", "/"))
        return self._known.get(str(path)) or self._known.get(path.name)


def _read(root: Path, below: PurePosixPath, text: str) -> Table:
    return read_table(root / below, text.encode())


def _column(table: Table, names: tuple[str, ...]) -> list[Any]:
    """The cells of the first of these columns that is there."""
    found = next((table.columns[name] for name in names if name in table.columns), None)
    if found is None:
        raise DataError.at(
            table.places[0].rpartition(":")[0],
            f"has no column {' or '.join(names)}; its columns are {', '.join(table.columns)}.",
        )
    return found


def _objects(
    rows: Table, index: Table, listed: dict[str, int], faults: list[Fault]
) -> dict[str, list[Object]]:
    """The objects of each listed image."""
    found: dict[str, list[Object]] = {image: [] for image in listed}
    names = next((edges for edges in EDGES if edges[0] in rows.columns), EDGES[0])
    edges = [_column(rows, (edge,)) for edge in names]
    labelled = any(name in rows.columns for name in CLASSES)
    labels = _column(rows, CLASSES) if labelled else [OBJECT] * len(rows.places)
    for image, label, place, *box in zip(
        _column(rows, IMAGES), labels, rows.places, *edges, strict=True
    ):
        if box == [None] * len(box):
            continue
        if str(image) not in listed:
            faults.append(Fault(place, f"there is no {image} in {INDEX}."))
        elif label is None:
            faults.append(Fault(place, "has a box without a class."))
        else:
            try:
                edged = as_box(box, _size(index, listed[str(image)]))
            except ValueError as error:
                faults.append(Fault(place, f"{error}."))
            else:
                found[str(image)].append((str(label), *edged))
    return found


def _size(index: Table, row: int) -> tuple[float, float] | None:
    """The image's width and height, where the index tells them."""
    cells = [index.columns.get(name, [None] * (row + 1))[row] for name in ("width", "height")]
    try:
        width, height = (float(cell) for cell in cells)
    except (TypeError, ValueError):
        return None
    return width, height


def _splits(index: Table, listed: dict[str, int], faults: list[Fault]) -> dict[str, np.ndarray]:
    cells = index.columns.get("split")
    if cells is None:
        return {}
    of_image = [cells[row] for row in listed.values()]
    faults += [
        Fault(index.places[row], f'got the split "{cells[row]}"; expected {one_of(SPLITS)}.')
        for row in listed.values()
        if cells[row] not in SPLITS
    ]
    chosen = np.array([str(cell) for cell in of_image])
    return {s: np.flatnonzero(chosen == s) for s in SPLITS if (chosen == s).any()}

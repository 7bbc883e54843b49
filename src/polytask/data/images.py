"""A data set as a source reads it: images, one table of label cells, and splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Image: TypeAlias = "np.ndarray | Path | bytes"
SPLITS = ("train", "val", "test")


@dataclass
class ImageSet:
    """What every source returns; tasks take their labels from `columns`, `store` the pixels.

    `images`: uint8 arrays [H, W] or [H, W, C], paths of files, or the bytes of files. `columns`:
    label cells by column name, one an image, `None` where the image is not labelled; a cell is
    text, a number, an array, a path, the bytes of a file, or a function that draws a mask.
    `splits`: split name to ascending positions; an empty mapping means "make them". `places`: where
    each image comes from, as an error names it (`shelf.csv:14`). `default_label` is the column of
    a task that names none. `classes`: known class names of a column, in order. `groups`: a cell an
    image; those of equal cells stay in one split, blank ones are on their own.
    """

    name: str
    images: list[Image] | np.ndarray
    columns: dict[str, list[Any]]
    splits: dict[str, np.ndarray] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    default_label: str | None = None
    classes: Mapping[str, list[str]] = field(default_factory=dict)
    groups: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def place(self, i: int) -> str:
        """Where image `i` comes from."""
        return self.places[i] if self.places else f"{self.name}[{i}]"

    def narrowed(self, only: Mapping[str, Collection[str]]) -> ImageSet:
        """The images whose cells in these columns have one of the values."""
        kept = np.ones(len(self), bool)
        for column, values in only.items():
            kept &= np.array([str(cell) in values for cell in self.columns[column]], bool)
        rows = np.flatnonzero(kept)
        new = np.cumsum(kept) - 1
        images = self.images
        return replace(
            self,
            images=images[rows] if isinstance(images, np.ndarray) else _taken(images, rows),
            columns={column: _taken(cells, rows) for column, cells in self.columns.items()},
            splits={split: new[index[kept[index]]] for split, index in self.splits.items()},
            places=_taken(self.places, rows) if self.places else [],
            classes={
                column: [c for c in names if column not in only or c in only[column]]
                for column, names in self.classes.items()
            },
            groups=None if self.groups is None else _taken(self.groups, rows),
        )


def _taken(cells: list[Any], rows: np.ndarray) -> list[Any]:
    return [cells[i] for i in rows.tolist()]

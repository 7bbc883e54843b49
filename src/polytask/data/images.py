"""A data set as a source reads it: images, one table of label cells, and splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from polytask.data.chunked import ChunkedImages

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
    image; those of equal cells stay in one split, blank ones are on their own. Images that were
    resized when they were packed have the (height, width) of their own pictures in `sizes` [N, 2],
    which boxes and masks refer to, and the digests of those pictures' pixels in `digests` [N, 16].
    """

    name: str
    images: list[Image] | np.ndarray | ChunkedImages
    columns: dict[str, list[Any]]
    splits: dict[str, np.ndarray] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    default_label: str | None = None
    classes: Mapping[str, list[str]] = field(default_factory=dict)
    groups: list[Any] | None = None
    sizes: np.ndarray | None = None
    digests: np.ndarray | None = None

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
        classes = {
            column: [c for c in names if column not in only or c in only[column]]
            for column, names in self.classes.items()
        }
        return replace(self.subset(np.flatnonzero(kept)), classes=classes)

    def subset(self, rows: np.ndarray) -> ImageSet:
        """The images at ascending positions, numbered anew."""
        images = self.images
        return replace(
            self,
            images=_taken(images, rows) if isinstance(images, list) else images[rows],
            columns={column: _taken(cells, rows) for column, cells in self.columns.items()},
            splits={s: np.flatnonzero(np.isin(rows, index)) for s, index in self.splits.items()},
            places=[self.place(i) for i in rows.tolist()],
            groups=None if self.groups is None else _taken(self.groups, rows),
            sizes=None if self.sizes is None else self.sizes[rows],
            digests=None if self.digests is None else self.digests[rows],
        )


def consecutive(counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The positions of splits of so many images, one after the other."""
    ends = np.cumsum([0, *counts.values()])
    return {s: np.arange(a, b) for s, a, b in zip(counts, ends, ends[1:], strict=False)}


def _taken(cells: list[Any], rows: np.ndarray) -> list[Any]:
    return [cells[i] for i in rows.tolist()]

"""A data set as a source reads it: images, one table of label cells, and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    a task that names none. `classes`: known class names of a column, in order.
    """

    name: str
    images: list[Image] | np.ndarray
    columns: dict[str, list[Any]]
    splits: dict[str, np.ndarray] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    default_label: str | None = None
    classes: Mapping[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def place(self, i: int) -> str:
        """Where image `i` comes from."""
        return self.places[i] if self.places else f"{self.name}[{i}]"

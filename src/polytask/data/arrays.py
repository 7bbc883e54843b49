"""Files of named arrays: one of images, and others of the same length with their labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from polytask.data.files import locate
from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.data.table import said
from polytask.errors import DataError, nearest, one_of, unknown


class ArrayFile(Source):
    """Every other array with an entry an image is a column: numbers and text as they are, [N, K] as
    K columns `name_0`, `name_1` and so on, [N, H, W] as masks or other label maps. NaN and empty
    text are blank.
    """

    path: Path = Field(description="the file")
    images: str = Field("image", description="array of the images, uint8 [N, H, W] or [N, H, W, C]")
    split: str | None = Field(
        None, description="array of train, val and test; or of booleans, true for test"
    )

    def read(self, name: str, folder: Path) -> ImageSet:
        return self.read_whole(name, locate(name, self.path, folder))

    @abstractmethod
    def read_whole(self, name: str, path: Path) -> ImageSet:
        """All images of the file."""

    def image_set(self, name: str, path: Path, arrays: Mapping[str, Any]) -> ImageSet:
        """The arrays of a file as a data set."""
        images = named(f"data.{name}.images", arrays, self.images, f"array of {path.name}")
        if images.dtype != np.uint8 or len(images.shape) not in (3, 4):
            found = f"{images.dtype} {list(images.shape)}"
            problem = f"{self.images} is {found}; expected uint8 [N, H, W] or [N, H, W, C]."
            raise DataError.at(str(path), problem)
        beside = {k: a for k, a in arrays.items() if k not in (self.images, self.split)}
        labels = dict(_columns(beside, len(images)))
        only = next(iter(labels)) if len(labels) == 1 else None
        splits = {}
        if self.split is not None:
            parts = named(f"data.{name}.split", arrays, self.split, f"array of {path.name}")
            splits = _splits(path, self.split, parts, len(images))
        places = [f"{path}[{i}]" for i in range(len(images))]
        default = "label" if "label" in labels else only
        return ImageSet(name, images, labels, splits, places, default)


def _columns(arrays: Mapping[str, np.ndarray], count: int) -> Iterator[tuple[str, list[Any]]]:
    for name, array in arrays.items():
        if array.shape[:1] != (count,):
            continue
        if array.ndim == 2:
            yield from ((f"{name}_{k}", _cells(column)) for k, column in enumerate(array.T))
        else:
            yield name, _cells(array) if array.ndim == 1 else list(array)


def _cells(column: np.ndarray) -> list[Any]:
    return [said(cell) for cell in column.tolist()]


def _splits(path: Path, column: str, parts: np.ndarray, count: int) -> dict[str, np.ndarray]:
    if parts.shape != (count,):
        problem = f"{column} is {list(parts.shape)}; expected an entry for each of {count} images."
        raise DataError.at(str(path), problem)
    words = np.where(parts, "test", "train") if parts.dtype == bool else parts.astype(str)
    odd = sorted(set(words) - set(SPLITS))
    if odd:
        problem = f'{column} holds "{odd[0]}"; expected {one_of(SPLITS)}, or booleans.'
        raise DataError.at(str(path), problem, nearest(odd[0], SPLITS))
    return {split: np.flatnonzero(words == split) for split in SPLITS if split in words}


def named(where: str, things: Mapping[str, Any], wanted: str, what: str = "column") -> Any:
    """The thing of that name; a `DataError` names the nearest where there is none."""
    if wanted not in things:
        raise DataError(unknown(where, what, wanted, things))
    return things[wanted]

"""A NumPy archive: an array of images, and arrays of the same length with their labels.

Source: your own files.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from polytask.data.files import MAX_UNPACKED, locate
from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.errors import DataError, nearest, one_of, unknown


class Npz(Source):
    """Every other array with an entry an image is a column; arrays of objects are never read."""

    path: Path = Field(description=".npz file")
    images: str = Field("image", description="array of the images, uint8 [N, H, W] or [N, H, W, C]")
    split: str | None = Field(
        None, description="array of train, val and test; or of booleans, true for test"
    )

    def read(self, name: str, folder: Path) -> ImageSet:
        path = locate(name, self.path, folder)
        arrays = _arrays(path)
        images = _named(name, path, arrays, "images", self.images)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            found = f"{images.dtype} {list(images.shape)}"
            problem = f"{self.images} is {found}; expected uint8 [N, H, W] or [N, H, W, C]."
            raise DataError.at(str(path), problem)
        columns = {
            k: a for k, a in arrays.items() if k != self.images and a.shape == images.shape[:1]
        }
        splits = self._splits(name, path, columns)
        labels = {k: a.tolist() for k, a in columns.items() if k != self.split}
        only = next(iter(labels)) if len(labels) == 1 else None
        places = [f"{path}[{i}]" for i in range(len(images))]
        return ImageSet(
            name, images, labels, splits, places, "label" if "label" in labels else only
        )

    def _splits(
        self, name: str, path: Path, columns: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        if self.split is None:
            return {}
        said = _named(name, path, columns, "split", self.split)
        if said.dtype == bool:
            said = np.where(said, "test", "train")
        said = said.astype(str)
        if not set(said) <= set(SPLITS):
            odd = sorted(set(said) - set(SPLITS))[0]
            problem = f'{self.split} holds "{odd}"; expected {one_of(SPLITS)}, or booleans.'
            raise DataError.at(str(path), problem, nearest(odd, SPLITS))
        return {split: np.flatnonzero(said == split) for split in SPLITS if split in said}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise DataError.at(str(path), "is no complete .npz archive.")
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED:
            problem = (
                f"unpacks to more than {MAX_UNPACKED >> 30} GiB, which would be held in memory."
            )
            raise DataError.at(str(path), problem, "Save it as several data sets.")
    try:
        with np.load(path, allow_pickle=False) as arrays:  # a pickle could run code
            return {key: arrays[key] for key in arrays.files}
    except ValueError as error:
        is_pickle = "pickle" in str(error)
        problem = "holds an array of objects, which is not read" if is_pickle else "is damaged"
        raise DataError.at(str(path), f"{problem}.", "Save plain numbers and text.") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError.at(str(path), "is damaged.") from error


def _named(name: str, path: Path, arrays: dict[str, Any], key: str, wanted: str) -> np.ndarray:
    if wanted not in arrays:
        where = f"data.{name}.{key}"
        raise DataError(unknown(where, f"array of {path.name}", wanted, arrays))
    found: np.ndarray = arrays[wanted]
    return found

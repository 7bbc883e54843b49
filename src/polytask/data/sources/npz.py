"""A NumPy archive: an array of images, and arrays of the same length with their labels.

Source: your own files.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from polytask.data.arrays import ArrayFile
from polytask.data.files import MAX_UNPACKED
from polytask.data.images import ImageSet
from polytask.errors import DataError


class Npz(ArrayFile):
    """Arrays of objects are never read: they could run code."""

    def read_whole(self, name: str, path: Path) -> ImageSet:
        return self.image_set(name, path, _arrays(path))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise DataError.at(str(path), "is no complete .npz archive.")
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED:
            problem = (
                f"unpacks to more than {MAX_UNPACKED >> 30} GiB, which would be held in memory."
            )
            raise DataError.at(str(path), problem, "Save it as several data sets, or as HDF5.")
    try:
        with np.load(path, allow_pickle=False) as arrays:  # a pickle could run code
            return {key: arrays[key] for key in arrays.files}
    except ValueError as error:
        is_pickle = "pickle" in str(error)
        problem = "holds an array of objects, which is not read" if is_pickle else "is damaged"
        raise DataError.at(str(path), f"{problem}.", "Save plain numbers and text.") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError.at(str(path), "is damaged.") from error

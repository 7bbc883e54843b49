"""An HDF5 file, of your own or from `polytask pack`, read in chunks where it exceeds the memory.

Source: your own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from polytask.data.arrays import ArrayFile, named
from polytask.data.chunked import ChunkedImages
from polytask.data.images import ImageSet
from polytask.data.packed import LAYOUT, read_packed
from polytask.errors import DataError, MissingExtra


class Hdf5(ArrayFile):
    """A packed file holds everything that its data set said, splits included."""

    h5_group: str | None = Field(
        None, description="group of the arrays; that of the data set's name where there is one"
    )

    def read_whole(self, name: str, path: Path) -> ImageSet:
        try:
            import h5py
        except ImportError as error:
            raise MissingExtra(f"Reading {path}", "hdf5") from error
        try:
            with h5py.File(path, "r") as file:
                where = self.h5_group or (name if name in file else "/")
                group = (
                    file if where == "/" else named(f"data.{name}.h5_group", file, where, "group")
                )
                if not isinstance(group, h5py.Group):
                    raise DataError.at(
                        f"data.{name}.h5_group", f"{where} is an array, not a group."
                    )
                is_packed = LAYOUT in group.attrs
                _refuse_links(path, group)
                if not is_packed and self.images not in group and len(group):
                    _offer_groups(name, path, group)
                arrays = dict(self._arrays(path, {} if is_packed else group))
                if is_packed:
                    return read_packed(name, path, group)
        except (OSError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError.at(str(path), f"is no complete HDF5 file: {reason}") from error
        return self.image_set(name, path, arrays)

    def _arrays(self, path: Path, group: Any) -> Any:
        for key, item in group.items():
            if key == self.images and hasattr(item, "shape"):
                yield key, ChunkedImages(path, item.name)
            elif hasattr(item, "shape") and (item.dtype.kind in "biuf" or _is_text(item)):
                yield key, np.asarray(item.asstr()[()] if _is_text(item) else item[()])


def _is_text(item: Any) -> bool:
    import h5py

    return h5py.check_string_dtype(item.dtype) is not None


def _refuse_links(path: Path, group: Any) -> None:
    """An array may lie in another file; a file from elsewhere has no business there."""
    import h5py

    def refuse(where: str) -> None:
        problem = f"{where} lies in another file, which is not read."
        raise DataError.at(str(path), problem, "Copy the array into this file.")

    for key in group:
        if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
            refuse(key)
        item = group[key]
        if isinstance(item, h5py.Group):
            _refuse_links(path, item)
        elif item.external or item.is_virtual:
            refuse(key)


def _offer_groups(name: str, path: Path, group: Any) -> None:
    import h5py

    inside = [key for key, item in group.items() if isinstance(item, h5py.Group)]
    if inside and len(inside) == len(group):
        problem = f"holds the groups {', '.join(inside)}, none of them named {name}."
        raise DataError.at(str(path), problem, f"Set data.{name}.h5_group.")

"""The layout of what `polytask pack` writes: a group of an HDF5 file, one a data set.

`image` holds the pixels, uint8 [N, C, H, W]; `split`, `place`, `size` (height and width before
resizing) and `digest` have an entry an image; `columns/0` and on are the label columns, each with
its `name` and how its `cells` are written. Nothing in it is ever run.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytask.data.chunked import ChunkedImages
from polytask.data.images import SPLITS, ImageSet
from polytask.errors import DataError

LAYOUT = "polytask_layout"
VERSION = 1


def read_packed(name: str, path: Path, group: Any) -> ImageSet:
    """The data set in an open group.

    Raises:
        DataError: the layout is a newer one.
    """
    version = int(group.attrs[LAYOUT])
    if version > VERSION:
        problem = f"was packed by a newer version of polytask (layout {version})."
        raise DataError.at(str(path), problem, "Pack it again with this one.")
    about = json.loads(group.attrs["about"])
    columns = [group[f"columns/{k}"] for k in range(len(group["columns"]))]
    said = group["split"].asstr()[()]
    labels = {c.attrs["name"]: _READ[c.attrs["cells"]](c) for c in columns}
    return ImageSet(
        name,
        ChunkedImages(path, group["image"].name, channels_first=True),
        labels,
        {split: np.flatnonzero(said == split) for split in SPLITS if split in said},
        list(group["place"].asstr()[()]),
        about["default_label"],
        about["classes"],
        groups=labels.get(about["group"]),
        sizes=group["size"][()],
        digests=group["digest"][()],
    )


def write_labels(group: Any, images: ImageSet, kept_together: str | None = None) -> None:
    """Everything but pixels of a data set; `kept_together` names the column of its groups."""
    group.attrs[LAYOUT] = VERSION
    about = {
        "default_label": images.default_label,
        "classes": dict(images.classes),
        "group": kept_together,
    }
    group.attrs["about"] = json.dumps(about)
    said = np.full(len(images), "", dtype=object)
    for split, rows in images.splits.items():
        said[rows] = split
    _write_text(group, "split", said.tolist())
    _write_text(group, "place", [images.place(i) for i in range(len(images))])
    columns = group.create_group("columns")
    for k, (name, cells) in enumerate(images.columns.items()):
        drawn = [cell() if callable(cell) else cell for cell in cells]
        how = _way(drawn)
        _WRITE[how](columns, str(k), drawn)
        columns[str(k)].attrs.update(name=name, cells=how)


def _way(cells: Sequence[Any]) -> str:
    """How a column's cells are written."""
    there = [cell for cell in cells if cell is not None]
    if all(isinstance(cell, Path | bytes | np.ndarray) for cell in there) and there:
        arrays = {(a.dtype, a.shape) for a in there if isinstance(a, np.ndarray)}
        is_one_array = len(there) == len(cells) and len(arrays) == 1
        is_one_array &= all(isinstance(cell, np.ndarray) for cell in there)
        return "array" if is_one_array else "file"
    if all(isinstance(cell, str) for cell in there):
        return "text"
    is_number = all(isinstance(cell, bool | int | float | np.number) for cell in there)
    return "number" if is_number and len(there) == len(cells) else "json"


def _write_array(group: Any, name: str, cells: Sequence[Any]) -> None:
    stacked = np.stack(cells)
    group.create_dataset(name, data=stacked, chunks=(1, *stacked.shape[1:]), compression="gzip")


def _write_files(group: Any, name: str, cells: Sequence[Any]) -> None:
    import h5py

    kind = h5py.vlen_dtype(np.uint8)
    written = group.create_dataset(name, (len(cells),), kind)
    for i, cell in enumerate(cells):
        if cell is not None:
            written[i] = np.frombuffer(_as_file(cell), np.uint8)


def _as_file(cell: Any) -> bytes:
    if isinstance(cell, np.ndarray):
        stream = io.BytesIO()
        np.save(stream, cell, allow_pickle=False)
        return stream.getvalue()
    return cell if isinstance(cell, bytes) else Path(cell).read_bytes()


def _write_text(group: Any, name: str, cells: Sequence[str | None]) -> None:
    import h5py

    group.create_dataset(name, data=[cell or "" for cell in cells], dtype=h5py.string_dtype())


def _write_json(group: Any, name: str, cells: Sequence[Any]) -> None:
    _write_text(group, name, ["" if c is None else json.dumps(c, default=_plain) for c in cells])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


_WRITE: dict[str, Callable[[Any, str, Sequence[Any]], None]] = {
    "array": _write_array,
    "file": _write_files,
    "text": _write_text,
    "number": lambda group, name, cells: group.create_dataset(name, data=np.array(cells)),
    "json": _write_json,
}
_READ: dict[str, Callable[[Any], list[Any]]] = {
    "array": lambda column: list(column[()]),
    # Bytes as they stand: what a file of numbers means depends on the task that reads it.
    "file": lambda column: [cell.tobytes() or None for cell in column[()]],
    "text": lambda column: [cell or None for cell in column.asstr()[()]],
    "number": lambda column: column[()].tolist(),
    "json": lambda column: [json.loads(c) if c else None for c in column.asstr()[()]],
}

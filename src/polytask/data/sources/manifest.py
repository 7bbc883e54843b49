"""A CSV or Parquet table, alone or in a zip archive: a column `image`, and any label columns.

Source: your own files.
"""

from __future__ import annotations

import os
import posixpath
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import Field

from polytask.data.files import find_images, is_image, locate
from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.data.table import CSV, PARQUET, Table, read_table
from polytask.errors import DataError, Fault, capped, nearest, one_of, unknown

TABLES = (*CSV, *PARQUET)


class Manifest(Source):
    """One row an image; a blank cell means "not labelled"; a label may be the path of a mask.

    The columns `split` and `group` are no labels: images with the same group (a patient, a scene)
    stay in one split. A path is relative to the manifest's folder and stays inside it unless
    `allow_outside` is set; in a zip archive with its images it always does.
    """

    path: Path = Field(description=".csv or .parquet file, or a zip archive that holds one")
    table: str | None = Field(None, description="which table of an archive, where it holds several")
    allow_outside: bool = Field(False, description="let paths lead out of the manifest's folder")

    def read(self, name: str, folder: Path) -> ImageSet:
        path = locate(name, self.path, folder)
        files: _Folder | _Archive
        if zipfile.is_zipfile(path):
            files = _Archive(path, self.table, f"data.{name}.table")
            path = Path(f"{path}:{files.table}")
            table = read_table(path, files.content)
        else:
            files = _Folder(path.parent, self.allow_outside)
            table = read_table(path)
        if "image" not in table.columns:
            raise DataError.at(
                str(path),
                f'has no column "image"; its columns are {", ".join(table.columns)}.',
                nearest("image", table.columns),
            )
        faults: list[Fault] = []
        images = _images(table, files, faults)
        splits = _splits(table, faults)
        if faults:
            raise DataError(capped(faults))
        columns = {
            column: [_label(cell, files) for cell in cells]
            for column, cells in table.columns.items()
            if column not in ("image", "split", "group")
        }
        only = next(iter(columns)) if len(columns) == 1 else None
        return ImageSet(
            name,
            images,
            columns,
            splits,
            table.places,
            default_label=only,
            groups=table.columns.get("group"),
        )


class _Folder:
    """Files below a manifest's folder."""

    def __init__(self, folder: Path, allow_outside: bool) -> None:
        self.shown = str(folder)
        self._folder, self._allow_outside = folder, allow_outside

    def leads_out(self, cell: str) -> bool:
        # Compared as written, not as links lead: linking image folders together is common.
        inside = os.path.join(os.path.abspath(self._folder), "")
        return not (self._allow_outside or os.path.abspath(self._folder / cell).startswith(inside))

    def find(self, cell: str) -> Path | None:
        path = self._folder / cell
        return path if os.path.isfile(path) else None


class _Archive:
    """Files of a zip archive, and the `content` of its `table`."""

    def __init__(self, root: Path, wanted: str | None, where: str) -> None:
        self._files = {str(f.below): f.image for f in find_images(root, _may_serve)}
        tables = [file for file in self._files if file.lower().endswith(TABLES)]
        if wanted is not None and wanted not in tables:
            raise DataError(unknown(where, "table", wanted, tables))
        if wanted is None and len(tables) != 1:
            found = ", ".join(tables) or "none"
            hint = "Name one with table." if tables else ""
            raise DataError.at(str(root), f"expected one .csv or .parquet; found {found}.", hint)
        self.table = wanted or tables[0]
        self.content = cast(bytes, self._files[self.table])
        self.shown = f"{self.table} in the archive"

    def leads_out(self, cell: str) -> bool:
        return self._path(cell).startswith(("/", "../"))

    def find(self, cell: str) -> Path | bytes | None:
        return self._files.get(self._path(cell))

    def _path(self, cell: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.table), cell))


def _may_serve(name: str) -> bool:
    return _is_file(name) or name.lower().endswith(TABLES)


def _is_file(cell: str) -> bool:
    return is_image(cell) or cell.lower().endswith(".npy")


def _images(table: Table, files: _Folder | _Archive, faults: list[Fault]) -> list[Any]:
    images = []
    for cell, place in zip(table.columns["image"], table.places, strict=True):
        if cell is None:
            faults.append(Fault(place, "image: blank; expected the path of an image."))
        elif not isinstance(cell, str):
            faults.append(Fault(place, f"image: got {type(cell).__name__}; expected a path."))
        elif files.leads_out(cell):
            hint = "Set allow_outside: true to let it." if isinstance(files, _Folder) else ""
            problem = f"image: {cell} leads out of the manifest's folder."
            faults.append(Fault(place, problem, hint))
        elif (found := files.find(cell)) is None:
            problem = f"image: no file {cell}; paths are relative to {files.shown}."
            faults.append(Fault(place, problem))
        else:
            images.append(found)
    return images


def _label(cell: Any, files: _Folder | _Archive) -> Any:
    """The cell; the file where it names an image, or an array, that is there."""
    if not isinstance(cell, str) or not _is_file(cell) or files.leads_out(cell):
        return cell
    found = files.find(cell)
    return cell if found is None else found


def _splits(table: Table, faults: list[Fault]) -> dict[str, np.ndarray]:
    cells = table.columns.get("split", [])
    if all(cell is None for cell in cells):
        return {}
    said = np.array(["" if cell is None else str(cell).lower() for cell in cells])
    for i in np.flatnonzero(~np.isin(said, SPLITS)):
        got = f'"{cells[i]}"' if said[i] else "a blank among other splits"
        faults.append(
            Fault(
                table.places[i],
                f"split: got {got}; expected {one_of(SPLITS)}.",
                nearest(said[i], SPLITS),
            )
        )
    return {split: np.flatnonzero(said == split) for split in SPLITS if split in said}

"""A CSV or Parquet table: a column `image`, perhaps `split` and `group`, and any label columns.

Source: your own files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from polytask.data.files import is_image, locate
from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.data.table import Table, read_table
from polytask.errors import DataError, Fault, capped, nearest, one_of


class Manifest(Source):
    """One row an image; a blank cell means "not labelled"; a label may be the path of a mask.

    Images with the same `group` (a patient, a scene) stay in one split.

    A path is relative to the manifest's folder and stays inside it unless `allow_outside` is set.
    """

    path: Path = Field(description=".csv or .parquet file")
    allow_outside: bool = Field(False, description="let paths lead out of the manifest's folder")

    def read(self, name: str, folder: Path) -> ImageSet:
        path = locate(name, self.path, folder)
        table = read_table(path)
        if "image" not in table.columns:
            raise DataError.at(
                str(path),
                f'has no column "image"; its columns are {", ".join(table.columns)}.',
                nearest("image", table.columns),
            )
        faults: list[Fault] = []
        images = self._images(table, path.parent, faults)
        splits = _splits(table, faults)
        if faults:
            raise DataError(capped(faults))
        columns = {
            column: [self._label(cell, path.parent) for cell in cells]
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

    def _images(self, table: Table, folder: Path, faults: list[Fault]) -> list[Any]:
        images = []
        for cell, place in zip(table.columns["image"], table.places, strict=True):
            if cell is None:
                faults.append(Fault(place, "image: blank; expected the path of an image."))
            elif not isinstance(cell, str):
                faults.append(Fault(place, f"image: got {type(cell).__name__}; expected a path."))
            elif not self._may_lead_to(cell, folder):
                faults.append(
                    Fault(
                        place,
                        f"image: {cell} leads out of the manifest's folder.",
                        "Set allow_outside: true to let it.",
                    )
                )
            elif not os.path.isfile(folder / cell):
                faults.append(
                    Fault(place, f"image: no file {cell}; paths are relative to {folder}.")
                )
            else:
                images.append(folder / cell)
        return images

    def _label(self, cell: Any, folder: Path) -> Any:
        """The cell; a path where it names an image file, or an array, that is there."""
        is_file = isinstance(cell, str) and (is_image(cell) or cell.lower().endswith(".npy"))
        if not (is_file and self._may_lead_to(cell, folder)):
            return cell
        path = folder / cell
        return path if os.path.isfile(path) else cell

    def _may_lead_to(self, cell: str, folder: Path) -> bool:
        # Compared as written, not as links lead: linking image folders together is common.
        inside = os.path.join(os.path.abspath(folder), "")
        return self.allow_outside or os.path.abspath(folder / cell).startswith(inside)


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

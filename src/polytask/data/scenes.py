"""Scenes with label maps, in the layouts that several published sets share.

A cell of a label column is the path or the bytes of a file, or a function that reads one and brings
its values to the form that all layouts of the set have.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from polytask.data.augment import IGNORED
from polytask.data.decode import read_mask, read_values
from polytask.data.files import Found, find_texts
from polytask.data.images import Image, ImageSet
from polytask.errors import DataError, Fault, capped, one_of

SCORED = {"train": "train", "val": "test"}  # what is published as val is what papers score on


def class_table(classes: Sequence[str], ids: Mapping[int, str]) -> np.ndarray:
    """The number in `classes` of each value of a mask, [256]; values without one are ignored."""
    table = np.full(IGNORED + 1, IGNORED, np.uint8)
    for value, name in ids.items():
        table[value] = classes.index(name)
    return table


def relabelled(mask: Image, table: np.ndarray, place: str) -> partial[np.ndarray]:
    """A mask whose values are looked up when it is read."""
    return partial(_looked_up, mask, table, place)


def _looked_up(mask: Image, table: np.ndarray, place: str) -> np.ndarray:
    return np.asarray(table[read_mask(mask, place)])


def scaled(values: Image, scale: float, offset: float, place: str) -> partial[np.ndarray]:
    """A map of numbers, scale · value + offset, that are 0 where the value is: unknown."""
    return partial(_scaled, values, scale, offset, place)


def _scaled(values: Image, scale: float, offset: float, place: str) -> np.ndarray:
    found = read_values(values, place)
    return np.where(found == 0, 0, found * scale + offset).astype(np.float32)


def npy_scenes(
    name: str, root: Path, folders: Mapping[str, str], classes: Mapping[str, list[str]]
) -> ImageSet:
    """`train/` and `val/`, each with a folder of numbered NPY files for the images and every label.

    Masks are −1 where they are ignored. A label's folder may be missing; so may a file of one.

    Args:
        name: of the data set.
        root: the folder.
        folders: column to the folder of its files.
        classes: known class names of a column.

    Raises:
        DataError: a split or every label is missing.
    """
    images: list[Any] = []
    splits: dict[str, np.ndarray] = {}
    for given, split in SCORED.items():
        files = sorted((root / given / "image").glob("*.npy"), key=_number)
        if not files:
            raise DataError.at(f"{root / given / 'image'}", "holds no .npy file.")
        splits[split] = np.arange(len(images), len(images) + len(files))
        images += files
    columns: dict[str, list[Any]] = {}
    for column, folder in folders.items():
        cells = [file.parent.parent / folder / file.name for file in images]
        found = [cell if cell.exists() else None for cell in cells]
        if any(found):
            columns[column] = found
    if not columns:
        problem = f"holds no {one_of(sorted(set(folders.values())))} beside image."
        raise DataError.at(f"{root / 'train'}", problem)
    known = {column: names for column, names in classes.items() if column in columns}
    places = [str(file) for file in images]
    return ImageSet(name, images, columns, splits, places, classes=known)


def _number(file: Path) -> tuple[int, str]:
    return (int(file.stem) if file.stem.isdecimal() else -1, file.stem)


def listed(root: Path) -> dict[str, str] | None:
    """The split of each name that an `index.csv` of name and split tells; `None` without one.

    Raises:
        DataError: it lacks a column.
    """
    texts = find_texts(root, (".csv",))
    text = next((text for path, text in texts.items() if path.name == "index.csv"), None)
    if text is None:
        return None
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"name", "split"} <= rows[0].keys():
        raise DataError.at(f"{root}:index.csv", "has no columns name and split.")
    return {row["name"]: row["split"] for row in rows}


def by_name(found: Sequence[Found], folder: str) -> dict[str, Found]:
    """The images of one folder by their names without suffix."""
    return {f.below.stem: f for f in found if f.below.parent.name == folder}


def all_there(root: Path, names: Sequence[str], there: Mapping[str, Mapping[str, Found]]) -> None:
    """Refuse a list that names files which are not there.

    Raises:
        DataError: with all of them.
    """
    faults = [
        Fault(f"{root}", f"{name} is listed, but there is no {what}.")
        for name in names
        for what, files in there.items()
        if name not in files
    ]
    if faults:
        raise DataError(capped(faults))


def positions(splits: Sequence[str]) -> dict[str, np.ndarray]:
    """The positions of each split."""
    given = np.array(splits)
    return {split: np.flatnonzero(given == split) for split in dict.fromkeys(splits)}

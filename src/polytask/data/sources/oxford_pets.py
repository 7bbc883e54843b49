"""Oxford-IIIT Pet: cats and dogs with breed, species, trimap and, for half of them, the head's box.

Source: Parkhi, Vedaldi, Zisserman, Jawahar, "Cats and Dogs", CVPR 2012 (CC BY-SA 4.0).

A folder or zip archive as published (and as torchvision unpacks it): `images/`, and `annotations/`
with `list.txt`, `trimaps/` and `xmls/`; or a cut-down copy with `images/`, `trimaps/` and an
`index.csv` of name, split, breed, species, head_x0, head_y0, head_x1 and head_y1. Columns are
`breed`, `species`, `trimap` (1 pet, 2 background, 3 border) and `x0`, `y0`, `x1`, `y1`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polytask.data.files import find_images, find_texts, locate, shown
from polytask.data.images import ImageSet
from polytask.data.objects import EDGES
from polytask.data.scenes import all_there, by_name
from polytask.data.source import Source
from polytask.errors import DataError

SPECIES = ("cat", "dog")  # 1 and 2 in list.txt


@dataclass(frozen=True)
class Pet:
    """What is known of an image; `box` is (x0, y0, x1, y1) in its pixels, where there is one."""

    name: str
    is_test: bool
    breed: str
    species: str
    box: tuple[float, ...] | None = None


class OxfordPets(Source):
    """The published test images have no boxes, so that the box of a head has no official test."""

    path: Path = Field(description="folder or zip archive")
    use: Literal["all", "boxed", "official"] = Field(
        "all",
        description="all: every image, split anew; boxed: those with a head box, split anew; "
        "official: the published training and test images",
    )
    val: float = Field(0.2, ge=0, lt=1, description="share of the images, where split anew")
    test: float = Field(0.2, ge=0, lt=1, description="share of the images, where split anew")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        found = find_images(root)
        pets = _pets(root)
        if self.use == "boxed":
            pets = [pet for pet in pets if pet.box is not None]
        images, trimaps = by_name(found, "images"), by_name(found, "trimaps")
        all_there(root, [pet.name for pet in pets], {"image": images, "trimap": trimaps})
        boxes = [pet.box or (None,) * 4 for pet in pets]
        columns: dict[str, list[Any]] = {
            "breed": [pet.breed for pet in pets],
            "species": [pet.species for pet in pets],
            "trimap": [trimaps[pet.name].image for pet in pets],
            **dict(zip(EDGES, map(list, zip(*boxes, strict=True)), strict=True)),
        }
        is_test = np.array([pet.is_test for pet in pets])
        official = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
        return ImageSet(
            name,
            images=[images[pet.name].image for pet in pets],
            columns=columns,
            splits=official if self.use == "official" else {},
            places=[shown(root, images[pet.name]) for pet in pets],
            default_label="breed",
        )


def _pets(root: Path) -> list[Pet]:
    """The pets that a list names, in its order."""
    texts = find_texts(root, (".csv", ".txt", ".xml"))
    by_file = {below.name: text for below, text in texts.items() if below.suffix != ".xml"}
    if "index.csv" in by_file:
        pets = _from_index(root, by_file["index.csv"])
    elif "list.txt" in by_file:
        xmls = {below.stem: text for below, text in texts.items() if below.suffix == ".xml"}
        pets = _from_list(root, by_file, xmls)
    else:
        raise DataError.at(
            str(root), "holds neither annotations/list.txt nor index.csv.", "Is it Oxford-IIIT Pet?"
        )
    if not pets:
        raise DataError.at(str(root), "lists no pet.")
    return pets


def _from_index(root: Path, text: str) -> list[Pet]:
    rows = list(csv.DictReader(io.StringIO(text)))
    missing = {"name", "split", "breed", "species"} - set(rows[0] if rows else ())
    if missing:
        raise DataError.at(f"{root}:index.csv", f"has no column {', '.join(sorted(missing))}.")
    try:
        return [
            Pet(row["name"], row["split"] == "test", row["breed"], row["species"], _head(row))
            for row in rows
        ]
    except ValueError as error:
        raise DataError.at(f"{root}:index.csv", f"holds a box that is no number: {error}") from None


def _head(row: Mapping[str, str]) -> tuple[float, ...] | None:
    cells = [row.get(f"head_{edge}") for edge in EDGES]
    return tuple(float(cell) for cell in cells if cell) if all(cells) else None


def _from_list(root: Path, texts: Mapping[str, str], xmls: Mapping[str, str]) -> list[Pet]:
    test = {line.split()[0] for line in texts.get("test.txt", "").splitlines() if line.strip()}
    pets = []
    for number, line in enumerate(texts["list.txt"].splitlines(), 1):
        cells = line.split()
        if not cells or cells[0].startswith("#"):
            continue
        if len(cells) < 3 or cells[2] not in ("1", "2"):
            problem = f'got "{line}"; expected an image, a class, and 1 (cat) or 2 (dog).'
            raise DataError.at(f"{root}:list.txt:{number}", problem)
        name = cells[0]
        breed, species = name.rsplit("_", 1)[0], SPECIES[int(cells[2]) - 1]
        box = _voc_box(xmls[name]) if name in xmls else None
        pets.append(Pet(name, name in test, breed, species, box))
    return pets


def _voc_box(text: str) -> tuple[float, ...] | None:
    """The box of an annotation, whose pixels count from 1 and include the last."""
    edges = [re.search(rf"<{edge}>\s*([\d.]+)", text) for edge in ("xmin", "ymin", "xmax", "ymax")]
    if not all(edges):
        return None
    x0, y0, x1, y1 = (float(edge.group(1)) for edge in edges if edge)
    return x0 - 1, y0 - 1, x1, y1

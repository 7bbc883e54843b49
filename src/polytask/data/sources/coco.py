"""Instances in COCO's JSON: boxes, classes and masks of any number of objects an image.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; your own files.

`path` is a JSON file, or a folder or zip archive with images and one JSON file or one a split, as
published (`annotations/instances_train2017.json`) or beside its images (`train/annotations.json`).
Columns: `boxes`; `class`, `x0`, `y0`, `x1`, `y1` of the largest object; 0 or 1 for each category;
`mask` [H, W], 0 for the background and k for the k-th category, crowds being ignored.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polytask.data.decode import MAX_PIXELS
from polytask.data.files import Found, find_images, find_texts, locate, read_text, shown
from polytask.data.images import SPLITS, Image, ImageSet
from polytask.data.objects import Object, as_box, object_classes, object_columns
from polytask.data.outlines import Region, draw, problem
from polytask.data.source import Source
from polytask.errors import DataError, Fault, capped, unknown

PARTS = ("images", "annotations", "categories")
IGNORED = 255  # of a mask
SPLIT = re.compile("(?<![a-z])(train|val|test)", re.IGNORECASE)


@dataclass
class Picture:
    """An image of a JSON file and its objects; of crowds it keeps the names and regions alone."""

    file: PurePosixPath
    size: tuple[int, int]
    objects: list[Object] = field(default_factory=list)
    crowds: dict[str, int | None] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)


class Coco(Source):
    """Splits are those of the files' or folders' names; those of a single file are made."""

    path: Path = Field(description="JSON file, folder or zip archive")
    images: Path | None = Field(None, description="folder of the images, where not below path")
    classes: list[str] = Field([], description="the categories to read; all of them by default")
    bad_boxes: Literal["error", "skip"] = Field(
        "error", description="skip: leave empty, inverted and outlying boxes out"
    )

    def read(self, name: str, folder: Path) -> ImageSet:
        path = locate(name, self.path, folder)
        texts = _texts(path)
        read = {below: _parsed(text, f"{path}:{below}") for below, text in texts.items()}
        parsed = {below: document for below, document in read.items() if document is not None}
        if not parsed:
            raise DataError.at(str(path), f"holds no JSON file with {', '.join(PARTS)}.")
        names = _categories(path, parsed)
        missing = [c for c in self.classes if c not in names]
        if missing:
            where = f"data.{name}.classes"
            raise DataError([unknown(where, "category", c, names) for c in missing])
        root = locate(name, self.images, folder) if self.images else _home(path)
        reader = _Reader(self.classes or names, self.bad_boxes == "skip")
        files = _Files(root)
        images: list[Image] = []
        places, pictures, owner = [], [], []
        for below, document in parsed.items():
            split = _split_of(below)
            for picture in reader.read(document, f"{path}:{below}"):
                found = files.find(picture.file, below.parent, split)
                if found is None:
                    problem = f"{picture.file} is listed, but there is no such image below {root}."
                    reader.faults.append(Fault(f"{path}:{below}", problem))
                    continue
                images.append(found.image)
                places.append(shown(root, found))
                pictures.append(picture)
                owner.append(split)
        if reader.faults:
            raise DataError(capped(reader.faults))
        said = np.array(owner)
        return ImageSet(
            name,
            images=images,
            columns=_columns(pictures, reader.classes),
            splits=_splits(path, list(parsed), said),
            places=places,
            default_label="class",
            classes={
                **object_classes(reader.classes),
                "mask": ["background", *reader.classes],
            },
        )


def _columns(pictures: list[Picture], classes: list[str]) -> dict[str, list[Any]]:
    columns = object_columns([p.objects for p in pictures], classes, [p.crowds for p in pictures])
    if len(classes) < IGNORED:
        columns["mask"] = [partial(draw, p.regions, *p.size) for p in pictures]
    return columns


class _Reader:
    """Reads documents; `faults` gathers what is wrong in them."""

    def __init__(self, classes: list[str], skips: bool) -> None:
        self.classes, self.skips = classes, skips
        self.faults: list[Fault] = []
        self._number = {name: k for k, name in enumerate(classes, 1)}

    def read(self, document: Mapping[str, Any], where: str) -> Iterator[Picture]:
        """The images of a document, with their objects."""
        names = {category["id"]: category["name"] for category in document["categories"]}
        pictures: dict[Any, Picture] = {}
        for k, entry in enumerate(document["images"]):
            place = f"{where}: images[{k}]"
            try:
                picture = _picture(entry)
            except (KeyError, TypeError, ValueError):
                expected = "expected id, file_name, and width and height above 0."
                self.faults.append(Fault(place, f"got {str(entry)[:80]}; {expected}"))
                continue
            if entry["id"] in pictures:
                self.faults.append(Fault(place, f"the id {entry['id']} is there twice."))
            pictures[entry["id"]] = picture
        for k, entry in enumerate(document["annotations"]):
            try:
                self._add(entry, names, pictures)
            except ValueError as error:
                tag = entry.get("id", k) if isinstance(entry, dict) else k
                self.faults.append(Fault(f"{where}: annotation {tag}", f"{error}."))
        yield from pictures.values()

    def _add(self, entry: Any, names: Mapping[Any, str], pictures: Mapping[Any, Picture]) -> None:
        """Put an annotation on its image; a ValueError says why it can't be."""
        if not isinstance(entry, dict):
            raise ValueError(f"got {str(entry)[:80]}; expected image_id, category_id and bbox")
        for key, known in (("image_id", pictures), ("category_id", names)):
            if not isinstance(entry.get(key), int | str) or entry[key] not in known:
                raise ValueError(f"{key} {entry.get(key)} is not in the file")
        picture, name = pictures[entry["image_id"]], names[entry["category_id"]]
        if name not in self._number:  # not among the classes to read
            return
        if "bbox" not in entry:
            raise ValueError("has no bbox")
        try:
            box = as_box(_edges(entry["bbox"]), picture.size)
        except ValueError:
            if self.skips:
                return
            raise
        is_crowd = bool(entry.get("iscrowd"))
        if is_crowd:
            picture.crowds[name] = 1
        else:
            picture.objects.append((name, *box))
        shape = entry.get("segmentation")
        if not shape:
            return
        wrong = problem(shape, *picture.size)
        if wrong:
            raise ValueError(wrong)
        area = (box[2] - box[0]) * (box[3] - box[1])
        value = IGNORED if is_crowd else self._number[name]
        picture.regions.append(Region(value, area, shape))


class _Files:
    """Images below a folder or in an archive, by their names as a JSON file writes them."""

    def __init__(self, root: Path) -> None:
        self._named: defaultdict[str, list[Found]] = defaultdict(list)
        for found in find_images(root):
            self._named[found.below.name].append(found)

    def find(self, file: PurePosixPath, beside: PurePosixPath, split: str) -> Found | None:
        """The image; of several of that name the one beside the JSON file, or of its split."""
        fitting = [
            f for f in self._named[file.name] if f.below.parts[-len(file.parts) :] == file.parts
        ]

        def nearness(found: Found) -> tuple[bool, bool]:
            above = found.below.parts[: -len(file.parts)]
            return above == beside.parts, split != "" and split in map(_split_in, above)

        return max(fitting, key=nearness, default=None)


def _texts(path: Path) -> dict[PurePosixPath, str]:
    """The JSON files that may hold instances, by their paths."""
    if path.suffix.lower() == ".json" and path.is_file():
        return {PurePosixPath(path.name): read_text(path)}
    return find_texts(path, (".json",), "instances") or find_texts(path, (".json",))


def _home(path: Path) -> Path:
    """The folder or archive that holds the images."""
    if path.suffix.lower() != ".json":
        return path
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _parsed(text: str, where: str) -> dict[str, Any] | None:
    """A document with instances; nothing where the file holds something else."""
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError.at(f"{where}:{line}", f"is no complete JSON: {error}") from None
    if not isinstance(document, dict) or not all(key in document for key in PARTS):
        return None
    for key in PARTS:
        if not isinstance(document[key], list):
            raise DataError.at(
                where, f"{key} is a {type(document[key]).__name__}; expected a list."
            )
    for category in document["categories"]:
        if not isinstance(category, dict) or not {"id", "name"} <= category.keys():
            problem = f"got the category {str(category)[:80]}; expected an id and a name."
            raise DataError.at(where, problem)
    return document


def _categories(path: Path, parsed: Mapping[PurePosixPath, Any]) -> list[str]:
    """The names of the categories in the order of their ids, the same in all files."""
    first, *others = parsed.items()
    wanted = _named(first[1])
    for below, document in others:
        if _named(document) != wanted:
            problem = f"its categories differ from those of {first[0]}."
            raise DataError.at(f"{path}:{below}", problem)
    names = list(wanted.values())
    twice = {name for name in names if names.count(name) > 1}
    if twice or not names:
        what = f"has the category {min(twice)} twice" if twice else "has no category"
        raise DataError.at(f"{path}:{first[0]}", f"{what}.")
    return names


def _named(document: Mapping[str, Any]) -> dict[Any, str]:
    pairs = ((category["id"], str(category["name"])) for category in document["categories"])
    return dict(sorted(pairs, key=lambda pair: (str(type(pair[0])), pair[0])))


def _picture(entry: Any) -> Picture:
    file = PurePosixPath(str(entry["file_name"]).replace("\\", "/"))
    width, height = int(entry["width"]), int(entry["height"])
    if (
        width < 1
        or height < 1
        or width * height > MAX_PIXELS
        or not isinstance(entry["id"], int | str)
        or not file.name
    ):
        raise ValueError
    return Picture(file, (width, height))


def _edges(bbox: Any) -> list[Any]:
    """COCO's x, y, width, height as edges."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"got the bbox {str(bbox)[:60]}; expected x, y, width, height")
    if not all(isinstance(number, int | float) for number in bbox):
        return bbox
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


def _split_of(below: PurePosixPath) -> str:
    """The split that a file's name, or else its folders' names, speak of; nothing if none."""
    found = (_split_in(part) for part in (below.stem, *reversed(below.parent.parts)))
    return next((split for split in found if split), "")


def _split_in(name: str) -> str:
    match = SPLIT.search(name)
    return match.group().lower() if match else ""


def _splits(path: Path, files: Iterable[PurePosixPath], owner: np.ndarray) -> dict[str, np.ndarray]:
    files = list(files)
    if len(files) == 1:
        return {}
    faults = [
        Fault(f"{path}:{file}", "belongs to no split; expected train, val or test in its name.")
        for file in files
        if not _split_of(file)
    ]
    if faults:
        raise DataError(capped(faults))
    return {split: np.flatnonzero(owner == split) for split in SPLITS if split in owner}

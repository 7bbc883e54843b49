"""Annotations as PASCAL VOC keeps them, one XML file an image: boxes, classes and masks.

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010; your own files.

A folder or zip archive with `Annotations/` and, each optional, `JPEGImages/` (or any other folder
of the images), `ImageSets/Main/train.txt` and the like, and `SegmentationClass/`; several years
below one folder are read together. Columns: `boxes`; `class`, `x0`, `y0`, `x1`, `y1` of the largest
object; 0 or 1 for each class; `mask`, whose value k is VOC's k-th class, 255 being ignored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias
from xml.etree import ElementTree

import numpy as np
from pydantic import Field

from polytask.data.files import Found, find_images, find_texts, locate, shown
from polytask.data.images import SPLITS, ImageSet
from polytask.data.objects import Object, as_box, object_classes, object_columns
from polytask.data.source import Source
from polytask.errors import DataError, Fault, capped, unknown

CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]
Key: TypeAlias = "tuple[PurePosixPath, str]"  # where Annotations lies, and a name in it
MASKS = ("SegmentationClass", "SegmentationObject")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# A document type can define entities that unfold to gigabytes or name files; no annotation has one.
DECLARATION = re.compile(r"<!(?!--|\[CDATA\[)")


@dataclass
class Annotation:
    """What an XML file says: the image's name and size, and objects with edges as written.

    `doubtful` are the classes of difficult objects that were not read.
    """

    home: PurePosixPath
    stem: str
    file: str
    size: tuple[float, float] | None
    objects: list[tuple[str, tuple[float, ...]]] = field(default_factory=list)
    doubtful: dict[str, int | None] = field(default_factory=dict)


class Voc(Source):
    """Splits are those of ImageSets where there are lists, else they are made."""

    path: Path = Field(description="folder or zip archive")
    sets: str = Field("Main", description="folder of ImageSets: Main, Segmentation or Layout")
    lists: dict[Literal["train", "val", "test"], str] = Field(
        {}, description="which list is which split: train, val and test are those of that name"
    )
    classes: list[str] = Field([], description="the classes to read; all of them by default")
    difficult: bool = Field(False, description="read the objects marked as difficult too")
    first_pixel: Literal[0, 1] | None = Field(
        None, description="number of the first pixel: 1 as in VOC, unless an edge is at 0"
    )
    bad_boxes: Literal["error", "skip"] = Field(
        "error", description="skip: leave empty, inverted and outlying boxes out"
    )

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        images = _Images(root)
        texts = find_texts(root, (".xml", ".txt"))
        faults: list[Fault] = []
        told = self._annotations(root, texts, faults)
        if not told and not faults:
            raise DataError.at(str(root), "holds no XML file in a folder Annotations.")
        splits, listed = self._lists(name, root, texts)
        if listed is not None:
            told = [one for one in told if (one.home, one.stem) in listed]
            known = {(one.home, one.stem) for one in told}
            faults += [
                Fault(f"{root}:{home / 'ImageSets'}", f"{stem} is listed, but has no annotation.")
                for home, stem in sorted(listed - known)
                if not faults
            ]
        found = [images.of(one) for one in told]
        faults += [
            Fault(f"{root}:{_xml(one)}", f"there is no image {one.file or one.stem}.")
            for one, image in zip(told, found, strict=True)
            if image is None
        ]
        classes = self._classes(name, told)
        objects = self._objects(root, told, classes, faults)
        if faults:
            raise DataError(capped(faults))
        there = [image for image in found if image is not None]
        masks = [images.mask(one) for one in told]
        columns = object_columns(objects, classes, [one.doubtful for one in told])
        if any(masks):
            columns["mask"] = [None if mask is None else mask.image for mask in masks]
        number = {(one.home, one.stem): i for i, one in enumerate(told)}
        are_vocs = {label for one in told for label, _ in one.objects} <= set(CLASSES)
        return ImageSet(
            name,
            images=[image.image for image in there],
            columns=columns,
            splits={s: np.array(sorted(number[key] for key in splits[s])) for s in splits},
            places=[shown(root, image) for image in there],
            default_label="class",
            classes={
                **object_classes(classes),
                **({"mask": ["background", *CLASSES]} if are_vocs else {}),
            },
        )

    def _annotations(
        self, root: Path, texts: Mapping[PurePosixPath, str], faults: list[Fault]
    ) -> list[Annotation]:
        told = []
        for below, text in texts.items():
            if below.suffix == ".xml" and below.parent.name == "Annotations":
                try:
                    told.append(_annotation(below, text, self.difficult))
                except ValueError as error:
                    faults.append(Fault(f"{root}:{below}", f"{error}."))
        return told

    def _lists(
        self, name: str, root: Path, texts: Mapping[PurePosixPath, str]
    ) -> tuple[dict[str, set[Key]], set[Key] | None]:
        """The images of each split, and those of all; `None` where there is no list."""
        lists = {
            below: {
                (below.parents[2], line.split()[0]) for line in text.splitlines() if line.split()
            }
            for below, text in texts.items()
            if below.suffix == ".txt" and below.parts[-3:-1] == ("ImageSets", self.sets)
        }
        kinds = {b.parts[-2] for b in texts if b.suffix == ".txt" and "ImageSets" in b.parts[-3:-2]}
        if kinds and self.sets not in kinds:
            raise DataError(unknown(f"data.{name}.sets", "folder", self.sets, sorted(kinds)))
        there = {below.stem for below in lists}
        wanted = {str(split): chosen for split, chosen in self.lists.items()}
        wanted = wanted or {split: split for split in SPLITS if split in there}
        if "train" not in wanted and "trainval" in there:
            wanted["train"] = "trainval"
        faults = [
            unknown(f"data.{name}.lists.{split}", "list", chosen, sorted(there))
            for split, chosen in wanted.items()
            if chosen not in there
        ]
        splits = {
            split: {key for below, keys in lists.items() if below.stem == chosen for key in keys}
            for split, chosen in wanted.items()
        }
        for one, two in combinations(splits, 2):
            twice = sorted(splits[one] & splits[two])
            if twice:
                problem = f"{twice[0][1]} is in the lists of {one} and {two}."
                faults.append(Fault(f"{root}: ImageSets/{self.sets}", problem))
        if faults:
            raise DataError(capped(faults))
        return splits, set().union(*splits.values()) if splits else None

    def _classes(self, name: str, told: list[Annotation]) -> list[str]:
        """VOC's own names in their order where there are no others, else those in use."""
        used = {label for one in told for label, _ in one.objects}
        known = [c for c in CLASSES if c in used] if used <= set(CLASSES) else sorted(used)
        faults = [
            unknown(f"data.{name}.classes", "class", wanted, known)
            for wanted in self.classes
            if wanted not in known
        ]
        if faults:
            raise DataError(faults)
        return self.classes or known

    def _objects(
        self, root: Path, told: list[Annotation], classes: list[str], faults: list[Fault]
    ) -> list[list[Object]]:
        first = self.first_pixel
        if first is None:
            edges = (edge for one in told for _, box in one.objects for edge in box[:2])
            first = 0 if min(edges, default=1) < 1 else 1
        found = []
        for one in told:
            kept = []
            for label, (x0, y0, x1, y1) in one.objects:
                if label not in classes:
                    continue
                try:  # VOC's last pixel belongs to the object
                    box = as_box((x0 - first, y0 - first, x1, y1), one.size)
                except ValueError as error:
                    if self.bad_boxes == "error":
                        faults.append(Fault(f"{root}:{_xml(one)}", f"{label}: {error}."))
                else:
                    kept.append((label, *box))
            found.append(kept)
        return found


def _xml(one: Annotation) -> PurePosixPath:
    return one.home / "Annotations" / f"{one.stem}.xml"


def _annotation(below: PurePosixPath, text: str, difficult: bool) -> Annotation:
    """Read an XML file; a ValueError says why it can't be."""
    if DECLARATION.search(text):
        raise ValueError("has a document type or an entity; expected a plain annotation")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"is no complete XML: {error}") from None
    if tree.tag != "annotation":
        raise ValueError(f"holds <{tree.tag}>; expected <annotation>")
    size = _numbers(tree.find("size"), ("width", "height"))
    one = Annotation(
        home=below.parent.parent,
        stem=below.stem,
        file=(tree.findtext("filename") or "").strip(),
        size=(size[0], size[1]) if size is not None and min(size) > 0 else None,
    )
    for k, thing in enumerate(tree.findall("object"), 1):
        label = (thing.findtext("name") or "").strip()
        box = _numbers(thing.find("bndbox"), CORNERS)
        if not label or box is None:
            expected = f"expected a name and a bndbox with {', '.join(CORNERS)}"
            raise ValueError(
                f"object {k} lacks {'a box of numbers' if label else 'a name'}; {expected}"
            )
        if difficult or (thing.findtext("difficult") or "").strip() != "1":
            one.objects.append((label, box))
        else:
            one.doubtful[label] = None
    return one


def _numbers(
    element: ElementTree.Element | None, names: tuple[str, ...]
) -> tuple[float, ...] | None:
    if element is None:
        return None
    try:
        return tuple(float(element.findtext(name) or "") for name in names)
    except ValueError:
        return None


class _Images:
    """The images and masks of a folder or archive, by where they lie and their names."""

    def __init__(self, root: Path) -> None:
        self._placed: dict[tuple[PurePosixPath, str], Found] = {}
        self._named: defaultdict[str, list[Found]] = defaultdict(list)
        for found in find_images(root):
            self._placed[found.below.parent, found.below.stem] = found
            if found.below.parent.name not in MASKS:
                self._named[found.below.stem].append(found)

    def of(self, one: Annotation) -> Found | None:
        """The image in JPEGImages, or in another folder beside Annotations."""
        for stem in (one.stem, PurePosixPath(one.file.replace("\\", "/")).stem):
            if (one.home / "JPEGImages", stem) in self._placed:
                return self._placed[one.home / "JPEGImages", stem]
            for found in self._named[stem]:
                if found.below.is_relative_to(one.home):
                    return found
        return None

    def mask(self, one: Annotation) -> Found | None:
        """The classes of the image's pixels."""
        return self._placed.get((one.home / MASKS[0], one.stem))

"""Images sorted into one folder per class, or into train, val and test first; or a zip of these.

Source: your own files.
"""

from __future__ import annotations

from itertools import compress
from pathlib import Path

import numpy as np
from pydantic import Field

from polytask.data.files import Found, find_images, is_hidden, locate, shown
from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.errors import DataError, Fault, capped, nearest, one_of, unknown

LAYOUTS = "<class>/*.jpg or {train,val,test}/<class>/*.jpg"


class Folder(Source):
    """Column `class`: the name of the folder; images in folders below it belong to it too."""

    path: Path = Field(description="folder or zip archive, " + LAYOUTS)
    classes: list[str] = Field([], description="the classes to read; all of them by default")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        found = find_images(root)
        start = _wrapping(found)
        # The folders that matter for each image: its class, or its split and class.
        above = [f.below.parts[start:-1] for f in found]
        depth = 2 if _has_splits(above) else 1
        faults = [
            Fault(shown(root, f), f"belongs to no class; expected {LAYOUTS}.")
            for f, parts in zip(found, above, strict=True)
            if len(parts) < depth
        ]
        base = root.joinpath(*found[0].below.parts[:start])
        faults += _empty_classes(base, {parts[:depth] for parts in above}, depth)
        if depth == 2:
            faults += _unknown_splits(base, {parts[0] for parts in above if parts})
        classes = {parts[depth - 1] for parts in above if len(parts) >= depth}
        if not faults and len(classes) < 2:
            faults = [
                Fault(
                    f"data.{name}.path",
                    f"{root} holds one class, {classes.pop()}; expected {LAYOUTS} with 2 or more.",
                    "For images without classes use source: unlabelled.",
                )
            ]
        faults += [
            unknown(f"data.{name}.classes", "class", wanted, sorted(classes))
            for wanted in self.classes
            if wanted not in classes
        ]
        if faults:
            raise DataError(capped(faults))
        if self.classes:
            kept = [parts[depth - 1] in self.classes for parts in above]
            found, above = list(compress(found, kept)), list(compress(above, kept))
        owner = np.array([parts[0] for parts in above])
        return ImageSet(
            name,
            images=[f.image for f in found],
            columns={"class": [parts[depth - 1] for parts in above]},
            splits={s: np.flatnonzero(owner == s) for s in SPLITS if depth == 2 and s in owner},
            places=[shown(root, f) for f in found],
            default_label="class",
        )


def _wrapping(found: list[Found]) -> int:
    """How many outer folders hold everything, as archives often have one: no class, no split."""
    start = 0
    while (
        all(len(f.below.parts) >= start + 3 for f in found)
        and len({f.below.parts[start] for f in found}) == 1
        and found[0].below.parts[start] not in SPLITS
    ):
        start += 1
    return start


def _has_splits(above: list[tuple[str, ...]]) -> bool:
    """Whether the first folders are splits; a lone class may well be called `train`."""
    first = {parts[0] for parts in above if parts}
    is_deep = all(len(parts) > 1 for parts in above if parts)
    if first <= set(SPLITS):
        return len(first) > 1 or is_deep
    return "train" in first and is_deep


def _unknown_splits(base: Path, first: set[str]) -> list[Fault]:
    return [
        Fault(str(base / s), f"is beside train; expected {one_of(SPLITS)}.", nearest(s, SPLITS))
        for s in sorted(first - set(SPLITS))
    ]


def _empty_classes(base: Path, used: set[tuple[str, ...]], depth: int) -> list[Fault]:
    """Class folders without an image: someone meant to have this class."""
    if not base.is_dir():
        return []
    return [
        Fault(str(path), "holds no image.", "Add images to this class, or remove the folder.")
        for path in sorted(base.glob("/".join("*" * depth)))
        if path.is_dir()
        and path.relative_to(base).parts not in used
        and not any(is_hidden(part) for part in path.relative_to(base).parts)
    ]

"""CamVid: street scenes seen from a car, 11 classes at every pixel.

Source: Brostow, Fauqueur, Cipolla, "Semantic Object Classes in Video: A High-Definition Ground
Truth Database", Pattern Recognition Letters 2009; split and classes as Badrinarayanan, Kendall,
Cipolla, "SegNet", PAMI 2017.

A folder or zip archive with `train/`, `val/` and `test/`, and their masks in `trainannot/`,
`valannot/` and `testannot/`; or a copy with `images/`, `labels/` and an `index.csv` of name and
split. The column is `label`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from polytask.data import scenes
from polytask.data.files import Found, find_images, locate, shown
from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.errors import DataError

CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]


class CamVid(Source):
    """Pixels of value 11 have no class and are ignored."""

    path: Path = Field(description="folder or zip archive")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        found = find_images(root)
        split_of, images, masks = _listed(root, found) or _in_folders(root, found)
        scenes.all_there(root, list(split_of), {"image": images, "mask": masks})
        places = [shown(root, images[key]) for key in split_of]
        table = scenes.class_table(CLASSES, dict(enumerate(CLASSES)))
        cells = [
            scenes.relabelled(masks[key].image, table, place)
            for key, place in zip(split_of, places, strict=True)
        ]
        return ImageSet(
            name,
            images=[images[key].image for key in split_of],
            columns={"label": cells},
            splits=scenes.positions(list(split_of.values())),
            places=places,
            classes={"label": CLASSES},
        )


Layout = tuple[dict[str, str], dict[str, Found], dict[str, Found]]


def _listed(root: Path, found: list[Found]) -> Layout | None:
    """Split, image and mask by name, of the layout with a list."""
    splits = scenes.listed(root)
    if splits is None:
        return None
    return splits, scenes.by_name(found, "images"), scenes.by_name(found, "labels")


def _in_folders(root: Path, found: list[Found]) -> Layout:
    splits: dict[str, str] = {}
    images: dict[str, Found] = {}
    masks: dict[str, Found] = {}
    for split in SPLITS:
        mine = scenes.by_name(found, split)
        splits |= dict.fromkeys(mine, split)
        images |= mine
        masks |= scenes.by_name(found, f"{split}annot")
    if not splits:
        raise DataError.at(str(root), "holds neither train nor index.csv.", "Is it CamVid?")
    return splits, images, masks

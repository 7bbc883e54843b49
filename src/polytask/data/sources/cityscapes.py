"""Cityscapes: street scenes with classes and disparities at every pixel.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016;
prepared at 128 × 256 pixels as Liu, Johns, Davison, CVPR 2019 (MTAN) do.

A folder as published: `leftImg8bit/`, `gtFine/` (files that end in _labelIds.png) and, where there
are any, `disparity/`; or as prepared for multi-task learning: `train/` and `val/`, each with
`image/`, `label_7/`, `label_19/` and `depth/`, which hold 0.npy, 1.npy, …. Columns are `label_19`,
`label_7` (the groups of those classes) and `disparity`: in pixels as published, 0 where unknown;
prepared as the files have it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from polytask.data import scenes
from polytask.data.files import find_images, locate, shown
from polytask.data.images import ImageSet
from polytask.data.source import Source
from polytask.errors import DataError

# Class, its value in a file of labelIds, its group.
CLASSES = (
    ("road", 7, "flat"),
    ("sidewalk", 8, "flat"),
    ("building", 11, "construction"),
    ("wall", 12, "construction"),
    ("fence", 13, "construction"),
    ("pole", 17, "object"),
    ("traffic light", 19, "object"),
    ("traffic sign", 20, "object"),
    ("vegetation", 21, "nature"),
    ("terrain", 22, "nature"),
    ("sky", 23, "sky"),
    ("person", 24, "human"),
    ("rider", 25, "human"),
    ("car", 26, "vehicle"),
    ("truck", 27, "vehicle"),
    ("bus", 28, "vehicle"),
    ("train", 31, "vehicle"),
    ("motorcycle", 32, "vehicle"),
    ("bicycle", 33, "vehicle"),
)
NINETEEN = [name for name, _, _ in CLASSES]
SEVEN = list(dict.fromkeys(group for _, _, group in CLASSES))
NAMES_OF = {"label_19": NINETEEN, "label_7": SEVEN}
FOLDERS = {"label_19": "label_19", "label_7": "label_7", "disparity": "depth"}
STEP = 1 / 256  # pixels of disparity; a value p above 0 is (p − 1) / 256
IMAGES, MASKS, DISPARITIES = "_leftImg8bit", "_gtFine_labelIds", "_disparity"


class Cityscapes(Source):
    """The published `val` images are the test images, as papers use them; `val` comes off train."""

    path: Path = Field(description="folder")
    val: float = Field(0.1, ge=0, lt=1, description="share of the published training images")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        if (root / "train" / "image").is_dir():
            return scenes.npy_scenes(name, root, FOLDERS, NAMES_OF)
        found = find_images(root)
        images, masks, disparities = (
            {f.below.stem.removesuffix(end): f for f in found if f.below.stem.endswith(end)}
            for end in (IMAGES, MASKS, DISPARITIES)
        )
        split_of = {key: f.below.parts[-3] for key, f in images.items() if len(f.below.parts) > 2}
        keys = [key for split in scenes.SCORED for key in split_of if split_of[key] == split]
        if not keys:
            raise DataError.at(
                str(root), "holds neither leftImg8bit/train nor train/image.", "Is it Cityscapes?"
            )
        scenes.all_there(root, keys, {"file of labelIds": masks})
        places = [shown(root, images[key]) for key in keys]
        named = list(zip(keys, places, strict=True))
        tables = {
            "label_19": scenes.class_table(NINETEEN, {value: name for name, value, _ in CLASSES}),
            "label_7": scenes.class_table(SEVEN, {value: group for _, value, group in CLASSES}),
        }
        columns: dict[str, list[Any]] = {
            column: [scenes.relabelled(masks[key].image, table, place) for key, place in named]
            for column, table in tables.items()
        }
        if disparities:
            columns["disparity"] = [
                scenes.scaled(disparities[key].image, STEP, -STEP, place)
                if key in disparities
                else None
                for key, place in named
            ]
        splits = np.array([scenes.SCORED[split_of[key]] for key in keys])
        return ImageSet(
            name,
            images=[images[key].image for key in keys],
            columns=columns,
            splits=scenes.positions(splits.tolist()),
            places=places,
            classes=NAMES_OF,
        )

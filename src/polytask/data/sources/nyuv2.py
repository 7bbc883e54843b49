"""NYU Depth v2: indoor scenes with classes, depths and surface normals at every pixel.

Source: Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD
Images", ECCV 2012; 13 classes as Couprie et al., ICLR 2013; prepared as Liu, Johns, Davison, CVPR
2019 (MTAN) do, at 288 × 384 pixels.

A folder as prepared for multi-task learning: `train/` and `val/`, each with `image/`, `label/`,
`depth/` and `normal/`, which hold 0.npy, 1.npy, …; or a cut-down copy, a folder or zip archive,
with `images/`, `depth/` (255 being 10 m), `label40/` and an `index.csv` of name and split, which
has no normals. Columns are `label` (13 classes), `depth` (metres) and `normals`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from polytask.data import scenes
from polytask.data.files import find_images, locate, shown
from polytask.data.images import ImageSet
from polytask.data.source import Source
from polytask.errors import DataError

CLASSES = [
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
]
# The number of the class of each of the first 39 of the 40 classes of Gupta et al., CVPR 2013. The
# cut-down copy has their last, "other prop", in one with unlabelled pixels: both are ignored.
THIRTEEN = (
    11, 4, 5, 0, 3, 8, 9, 11, 12, 5, 7, 5, 12, 9, 5, 12, 5, 6, 6, 4,
    6, 2, 1, 5, 10, 6, 6, 6, 6, 6, 6, 5, 6, 6, 6, 6, 6, 6, 5,
)  # fmt: skip
FOLDERS = {"label": "label", "depth": "depth", "normals": "normal"}
METRES = 10 / 255


class NYUv2(Source):
    """The published `val` images are the test images, as papers use them; `val` comes off train."""

    path: Path = Field(description="folder, or zip archive of the cut-down copy")
    val: float = Field(0.1, ge=0, lt=1, description="share of the published training images")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        if (root / "train").is_dir():
            return scenes.npy_scenes(name, root, FOLDERS, {"label": CLASSES})
        splits = scenes.listed(root)
        if splits is None:
            raise DataError.at(
                str(root), "holds neither train/image nor index.csv.", "Is it NYU Depth v2?"
            )
        found = find_images(root)
        files = {what: scenes.by_name(found, what) for what in ("images", "label40", "depth")}
        scenes.all_there(root, list(splits), files)
        places = [shown(root, files["images"][key]) for key in splits]
        named = list(zip(splits, places, strict=True))
        table = scenes.class_table(CLASSES, {i: CLASSES[k] for i, k in enumerate(THIRTEEN)})
        masks = [scenes.relabelled(files["label40"][k].image, table, place) for k, place in named]
        depths = [scenes.scaled(files["depth"][k].image, METRES, 0.0, place) for k, place in named]
        return ImageSet(
            name,
            images=[files["images"][key].image for key in splits],
            columns={"label": masks, "depth": depths},
            splits=scenes.positions(list(splits.values())),
            places=places,
            classes={"label": CLASSES},
        )

"""CelebA: 202,599 faces of 10,177 people with 40 attributes and five landmarks.

Source: Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polytask.data.images import ImageSet, consecutive
from polytask.data.torchvision_set import TorchvisionSet

SPLITS = {"train": "train", "val": "valid", "test": "test"}
LANDMARKS = [
    f"{part}_{axis}"
    for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for axis in "xy"
]


class CelebA(TorchvisionSet):
    """A column of 0 and 1 for each attribute (`Smiling`); `identity`; `lefteye_x` and the like.

    The landmarks are those of the aligned images; the published boxes are not, and are left out.
    """

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision import datasets

        root = self.root(name, folder)
        layout = "celeba/ with img_align_celeba/ and the published lists"
        parts = {}
        for split, published in SPLITS.items():
            parts[split] = self.opened(
                root,
                layout,
                lambda published=published: datasets.CelebA(  # type: ignore[misc]
                    root, published, download=self.download
                ),
            )
        # The header ends with a blank, which torchvision takes for a name.
        attributes = [a for a in parts["train"].attr_names if a]
        columns: dict[str, list[Any]] = {}
        tables = (
            (attributes, [part.attr for part in parts.values()]),
            (["identity"], [part.identity for part in parts.values()]),
            (LANDMARKS, [part.landmarks_align for part in parts.values()]),
        )
        for names, cells in tables:
            table = np.concatenate([part.numpy() for part in cells])
            columns |= {column: table[:, k].tolist() for k, column in enumerate(names)}
        files = [
            root / "celeba" / "img_align_celeba" / file
            for part in parts.values()
            for file in part.filename
        ]
        return ImageSet(
            name,
            images=list(files),
            columns=columns,
            splits=consecutive({split: len(part.filename) for split, part in parts.items()}),
            places=[str(file) for file in files],
        )

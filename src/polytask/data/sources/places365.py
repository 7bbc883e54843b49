"""Places365: photographs of 365 kinds of places.

Source: Zhou, Lapedriza, Khosla, Oliva, Torralba, "Places: A 10 Million Image Database for Scene
Recognition", IEEE TPAMI 2018.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from polytask.data.images import ImageSet
from polytask.data.torchvision_set import TorchvisionSet


class Places365(TorchvisionSet):
    """Column `class`. The published validation images are `test`; those of test have no labels."""

    small: bool = Field(True, description="the images of 256 × 256 pixels")
    train: Literal["standard", "challenge"] = Field("standard", description="training images")

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision import datasets

        root = self.root(name, folder)
        layout = "categories_places365.txt, places365_val.txt and the like, and their images"
        parts = {}
        for split, published in (("train", f"train-{self.train}"), ("test", "val")):
            parts[split] = self.opened(
                root,
                layout,
                lambda published=published: datasets.Places365(  # type: ignore[misc]
                    root, published, self.small, self.download
                ),
            )
        names = {k: text for text, k in parts["train"].class_to_idx.items()}
        listed = [entry for part in parts.values() for entry in part.imgs]
        first = len(parts["train"].imgs)
        return ImageSet(
            name,
            images=[Path(file) for file, _ in listed],
            columns={"class": [None if k is None else names[k].strip("/") for _, k in listed]},
            splits={"train": np.arange(first), "test": np.arange(first, len(listed))},
            places=[file for file, _ in listed],
            default_label="class",
            classes={"class": [names[k].strip("/") for k in sorted(names)]},
        )

"""Caltech 101: 8,677 photographs of 101 kinds of objects.

Source: Fei-Fei, Fergus, Perona, "Learning Generative Visual Models from Few Training Examples",
CVPR workshop 2004.
"""

from __future__ import annotations

from pathlib import Path

from polytask.data.images import ImageSet
from polytask.data.torchvision_set import TorchvisionSet
from polytask.errors import DataError

OBJECTS = "101_ObjectCategories"


class Caltech101(TorchvisionSet):
    """Column `class`. Splits are made: the set has none."""

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision import datasets

        root = self.root(name, folder)
        objects = root / "caltech101" / OBJECTS
        layout = f"caltech101/{OBJECTS}/<class>/image_0001.jpg"
        if not self.download and not objects.is_dir():  # torchvision would make folders there
            raise DataError.at(str(root), f"has no folder caltech101/{OBJECTS}; expected {layout}.")
        found = self.opened(root, layout, lambda: datasets.Caltech101(root, download=self.download))
        classes = list(found.categories)
        images = [
            objects / classes[k] / f"image_{number:04d}.jpg"
            for k, number in zip(found.y, found.index, strict=True)
        ]
        return ImageSet(
            name,
            images=list(images),
            columns={"class": [classes[k] for k in found.y]},
            places=[str(image) for image in images],
            default_label="class",
            classes={"class": classes},
        )

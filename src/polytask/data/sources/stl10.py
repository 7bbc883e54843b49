"""STL-10: 13,000 photographs of 96 × 96 pixels, 10 classes, and 100,000 without labels.

Source: Coates, Lee, Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
AISTATS 2011.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from polytask.data.images import ImageSet
from polytask.data.torchvision_set import TorchvisionSet, stacked


class Stl10(TorchvisionSet):
    """Column `class`, blank for the unlabelled part, which belongs to train. Splits train, test."""

    unlabelled: bool = Field(False, description="train on the 100,000 images without labels too")

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision.datasets import STL10

        root = self.root(name, folder)
        layout = "stl10_binary/ with the published files"

        def read(split: str):  # type: ignore[no-untyped-def]  # torchvision has no types
            return self.opened(root, layout, lambda: STL10(root, split, download=self.download))

        train, test = read("train+unlabeled" if self.unlabelled else "train"), read("test")
        parts = {
            split: (part.data.transpose(0, 2, 3, 1), part.labels.astype(int).tolist())
            for split, part in (("train", train), ("test", test))
        }
        return stacked(name, root, parts, train.classes)

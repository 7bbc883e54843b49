"""Street View House Numbers: digits cropped from photographs, 32 × 32 pixels.

Source: Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", NIPS
workshop on deep learning 2011.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from polytask.data.images import ImageSet
from polytask.data.sources.digits import DIGITS
from polytask.data.torchvision_set import TorchvisionSet, stacked


class Svhn(TorchvisionSet):
    """Column `class`, the digit in the middle. Splits train and test."""

    extra: bool = Field(False, description="train on the 531,131 easier images too")

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision.datasets import SVHN

        root = self.root(name, folder)

        def read(split: str) -> tuple[np.ndarray, list[int]]:
            layout = f"{split}_32x32.mat as published"
            part = self.opened(root, layout, lambda: SVHN(root, split, download=self.download))
            return part.data.transpose(0, 2, 3, 1), np.atleast_1d(part.labels).tolist()

        train, test = read("train"), read("test")
        if self.extra:
            images, labels = read("extra")
            train = np.concatenate([train[0], images]), train[1] + labels
        return stacked(name, root, {"train": train, "test": test}, DIGITS)

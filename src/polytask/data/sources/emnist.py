"""EMNIST: handwritten digits, capitals and small letters, 28 × 28 grey pixels.

Source: Cohen, Afshar, Tapson, van Schaik, "EMNIST: Extending MNIST to Handwritten Letters", IJCNN
2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from polytask.data.images import ImageSet
from polytask.data.torchvision_set import TorchvisionSet, stacked


class Emnist(TorchvisionSet):
    """Columns `class`, and `case`: digit, upper or lower. Splits train and test.

    The files hold the characters lying on their side; here they stand.
    """

    subset: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = Field(
        "byclass", description="byclass has 62 classes; letters are both cases in one class"
    )

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision.datasets import EMNIST

        root, subset = self.root(name, folder), self.subset
        layout = f"EMNIST/raw/emnist-{subset}-train-images-idx3-ubyte and the like, unpacked"
        classes = EMNIST.classes_split_dict[subset]
        first = int(classes[0] == "N/A")  # letters count from 1

        def read(train: bool) -> tuple[np.ndarray, list[int]]:
            part = self.opened(
                root, layout, lambda: EMNIST(root, subset, train=train, download=self.download)
            )
            return part.data.numpy().transpose(0, 2, 1), (part.targets - first).tolist()

        parts = {"train": read(True), "test": read(False)}
        images = stacked(name, root, parts, classes[first:])
        if subset in ("byclass", "bymerge", "balanced"):
            images.columns["case"] = [case_of(c) for c in images.columns["class"]]
        return images


def case_of(character: str) -> str:
    """Whether a character is a digit, an upper or a lower case letter."""
    if character.isdigit():
        return "digit"
    return "upper" if character.isupper() else "lower"

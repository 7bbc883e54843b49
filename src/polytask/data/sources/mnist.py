"""MNIST and the sets in its format: 28 × 28 grey digits, clothes, or Japanese characters; USPS.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 1998; Xiao, Rasul, Vollgraf 2017 (Fashion-MNIST); Clanuwat et al. 2018
(KMNIST); Hull, IEEE TPAMI 1994 (USPS).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polytask.data.images import ImageSet
from polytask.data.sources.digits import DIGITS
from polytask.data.torchvision_set import TorchvisionSet, stacked

NAMES = {
    "mnist": "MNIST: 70,000 handwritten digits of 28 × 28 grey pixels.",
    "fashion_mnist": "Fashion-MNIST: 70,000 pieces of clothing of 28 × 28 grey pixels, 10 classes.",
    "kmnist": "KMNIST: 70,000 handwritten Japanese characters of 28 × 28 grey pixels, 10 classes.",
    "usps": "USPS: 9,298 digits from envelopes, 16 × 16 grey pixels.",
}


class Mnist(TorchvisionSet):
    """Column `class`. Splits train and test."""

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision import datasets

        root = self.root(name, folder)
        kind = {
            "mnist": datasets.MNIST,
            "fashion_mnist": datasets.FashionMNIST,
            "kmnist": datasets.KMNIST,
            "usps": datasets.USPS,
        }[self.source]
        layout = f"{kind.__name__}/raw/train-images-idx3-ubyte and the like, unpacked"
        if self.source == "usps":
            layout = "usps.bz2 and usps.t.bz2"

        def read(train: bool) -> tuple[np.ndarray, list[int]]:
            part = self.opened(root, layout, lambda: kind(root, train, download=self.download))
            return np.asarray(part.data), np.asarray(part.targets).tolist()

        has_names = self.source in ("fashion_mnist", "kmnist")
        classes = list(kind.classes) if has_names else DIGITS
        return stacked(name, root, {"train": read(True), "test": read(False)}, classes)

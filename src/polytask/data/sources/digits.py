"""1,797 scanned handwritten digits of 13 people, 8×8 grey.

Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998; its test set, as scikit-learn ships it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from polytask.data.images import ImageSet
from polytask.data.source import Source

DIGITS = list("0123456789")


class Digits(Source):
    """Column `digit`. Ink is bright on black; 17 levels are spread over 0 to 255."""

    def read(self, name: str, folder: Path) -> ImageSet:
        del folder
        images, labels = _scans()
        return ImageSet(
            name,
            images=np.round(images * (255 / 16)).astype(np.uint8),
            columns={"digit": [DIGITS[k] for k in labels]},
            default_label="digit",
            classes={"digit": DIGITS},
        )


@cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Images and their classes, read from a text once for all runs of a process."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    return scans.images, scans.target

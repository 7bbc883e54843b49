"""1,797 scanned handwritten digits of 13 people, 8×8 grey.

Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998; its test set, as scikit-learn ships it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polytask.data.images import ImageSet
from polytask.data.source import Source

DIGITS = list("0123456789")


class Digits(Source):
    """Column `digit`. Ink is bright on black; 17 levels are spread over 0 to 255."""

    def read(self, name: str, folder: Path) -> ImageSet:
        del folder
        from sklearn.datasets import load_digits

        scans = load_digits()
        return ImageSet(
            name,
            images=np.round(scans.images * (255 / 16)).astype(np.uint8),
            columns={"digit": [DIGITS[k] for k in scans.target]},
            default_label="digit",
            classes={"digit": DIGITS},
        )

"""The scanned digits are scikit-learn's, in 8 bits."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from polytask.data.sources.digits import Digits


def test_they_are_the_scans_of_scikit_learn():
    images = Digits(source="digits").read("handwritten", Path())
    scans = load_digits()
    assert images.images.shape == (1797, 8, 8)
    assert images.images.dtype == np.uint8
    # 17 levels to 256: off by at most half a level of the 8 bits, and exact at both ends.
    np.testing.assert_allclose(images.images / 255, scans.images / 16, atol=0.5 / 255 + 1e-12)
    assert images.images.max() == 255
    assert images.columns == {"digit": [str(k) for k in scans.target]}
    assert images.default_label == "digit"
    assert images.classes["digit"] == list("0123456789")
    assert images.splits == {}
    assert images.place(3) == "handwritten[3]"

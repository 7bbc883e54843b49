"""Probes: features that tell the classes apart score 1, features that do not score at chance."""

import numpy as np

from polytask.distill.probe import probe


def test_probes_tell_good_features_from_none():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    good = np.eye(3)[labels] + rng.normal(0, 0.05, (120, 3))
    none = rng.normal(0, 1, (120, 3))
    assert probe(good[:90], labels[:90], good[90:], labels[90:]) == {
        "linear_probe": 1.0,
        "knn": 1.0,
    }
    chance = probe(none[:90], labels[:90], none[90:], labels[90:])
    assert max(chance.values()) < 0.65

"""A trained run of two tasks that leave the trunk at different depths, on sets of two sizes."""

import pytest

from polytask.training import train

CONFIG = {
    "data": {
        "scenes": {"source": "shapes", "count": 60, "size": 24},
        "digits": {"source": "digits", "fraction": 0.05, "size": 16},
    },
    "tasks": {
        "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
        "looks": {"kind": "multilabel", "data": "scenes", "label": ["filled", "large"]},
        "digit": {"kind": "classification", "data": "digits"},
    },
    "backbone": {"name": "resnet10", "stem": "small", "width": 0.125},
    "methods": [
        "hard",
        {
            "multi_exit": {
                "exits": {"shape": "layer1", "looks": "layer3", "digit": "layer4"},
                "filter": True,
                "as": "exits",
            }
        },
    ],
    "train": {"epochs": 2, "batch": 16},
    "seeds": [3, 5],
}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy") / "run"
    train(CONFIG, "exits", out=folder)
    return folder

"""Pretraining, stopped in each of its ways of training, ends in the bits of a run in one piece."""

import json

import pytest
from safetensors.torch import load_file

from polytask.config import read_config
from polytask.training.pretrain import pretext_config
from polytask.training.run import Stopped, train_run

WAYS = {
    "joint": "hard",
    "layer_lasso": "layer_lasso",
    "ensemble": {"hard": {"update": {"name": "temporal_ensemble", "norm_batches": 1}}},
}


def pretraining(method):
    """Tasks whose state lives in heads, in a phase's modules, and in neither."""
    backbone = "resnet18" if method == "layer_lasso" else "resnet10"  # it mixes units of a stage
    config = {
        "data": {"photos": {"source": "printed_digits", "count": 60, "size": 12}},
        "tasks": {
            "same": {"kind": "simsiam", "data": "photos", "hidden": 8},
            "taught": {"kind": "dino", "data": "photos", "hidden": 8, "answers": 8},
            "colour": {"kind": "colorization", "data": "photos"},
        },
        "backbone": {"name": backbone, "stem": "small", "width": 0.0625},
        "methods": [method],
        "train": {"epochs": 2, "batch": 24, "optimizer": {"name": "sgd", "lr": 0.05}},
        "seeds": 1,
    }
    return pretext_config(read_config(config))


@pytest.mark.parametrize("way", WAYS)
def test_stopped_amid_an_epoch_it_ends_in_the_same_bits(way, tmp_path):
    config = pretraining(WAYS[way])
    entry = config.methods[-1]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_run(config, entry, 0, whole)
    with pytest.raises(Stopped):
        train_run(config, entry, 0, cut, stop_after=3)  # in the second epoch of two steps
    train_run(config, entry, 0, cut, resume=True)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    rows = [(f / "metrics.jsonl").read_text().splitlines() for f in (whole, cut)]
    for one, other in zip(*rows, strict=True):
        assert {**json.loads(one), "seconds": 0} == {**json.loads(other), "seconds": 0}
    assert not [name for name in load_file(whole / "model.safetensors") if "teacher" in name]

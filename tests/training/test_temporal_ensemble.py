"""The update rule: one task trains as plainly, runs resume exactly, and what it touches."""

import json

import pytest
import torch
from safetensors.torch import load_file

from polytask import backbones
from polytask.backbones.staged import before_shrinking
from polytask.errors import UserError
from polytask.training import preflight
from polytask.training.rules import build
from polytask.training.run import Stopped, train_run

BARE = {"name": "temporal_ensemble", "average": 1, "norm_batches": 0}
ONE = {"tasks": {"read_print": {"kind": "classification", "data": "printed"}}}
PRETEXT = {
    "data": {
        "handwritten": {"source": "digits", "fraction": 0.1, "size": 16},
        "printed": {"source": "printed_digits", "count": 120, "size": 16},
    },
    "tasks": {
        "turn": {"kind": "rotation", "data": "printed", "hidden": 8},
        "again": {"kind": "reconstruction", "data": "printed"},
        "read": {"kind": "classification", "data": "handwritten"},
    },
}


def weights(folder):
    return load_file(folder / "model.safetensors")


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_task_trains_as_it_would_plainly(config, run_in):
    """Bit for bit, momentum, statistics and learning rates included."""
    chosen = config(["hard", {"hard": {"update": BARE, "as": "ensemble"}}], ONE, epochs=3)
    _, plain = run_in(chosen, "hard")
    _, ensemble = run_in(chosen, "ensemble")
    first, second = weights(plain), weights(ensemble)
    assert all(torch.equal(first[name], second[name]) for name in first | second)


def test_the_average_is_kept_and_does_not_disturb_training(config, run_in):
    """Training losses do not depend on T; what is kept is the mean of the last T epochs."""
    methods = [
        {"hard": {"update": {**BARE, "layers": "all", "average": t}, "as": f"t{t}"}} for t in (1, 2)
    ]
    chosen = config(methods, epochs=2)
    shorter = config(methods, epochs=1, schedule="constant")
    same_rate = config(methods, epochs=2, schedule="constant")
    _, first = run_in(shorter, "t1", "short")
    _, last = run_in(same_rate, "t1", "long")
    _, mean = run_in(same_rate, "t2", "long")
    for name, value in weights(mean).items():
        if name.startswith("backbone") and name.endswith("weight"):
            expected = (weights(first)[name] + weights(last)[name]) / 2
            torch.testing.assert_close(value, expected)
    del chosen
    losses = [[r["loss"] for r in rows(f) if r["split"] == "train"] for f in (last, mean)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("stop", [3, 8])
def test_killed_and_resumed_it_ends_in_the_same_bits(config, run_in, tmp_path, stop):
    update = {"name": "temporal_ensemble", "average": 2, "norm_batches": 2}
    entry = {"hard": {"update": update, "regularize": {"name": "jsd", "prior": "previous"}}}
    chosen = config([entry], PRETEXT, epochs=3)
    _, whole = run_in(chosen, "hard", "whole")
    folder = tmp_path / "cut" / "hard"
    with pytest.raises(Stopped):
        train_run(chosen, chosen.method("hard"), 0, folder, stop_after=stop)
    train_run(chosen, chosen.method("hard"), 0, folder, resume=True)
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for one, other in zip(rows(whole), rows(folder), strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_resumed_all_it_remembers_is_on_the_device_of_the_run():
    """Saved states are read to the CPU; optimizers keep their counts of steps there."""
    w, numbers = torch.ones(2), {"momentum_buffer": torch.ones(2), "step": torch.tensor(3.0)}
    copy = {"tensors": {"w": w, "batches": torch.tensor(1)}, "momentum": {"w": numbers}}
    state = {"copies": {"a": copy}, "before": {}, "history": [{"w": w}, {"w": w}]}
    rule = build({"temporal_ensemble": {}})
    rule.load_state_dict({**state, "found": {}, "start": {"w": w}}, torch.device("meta"))
    own = rule.copies["a"]
    kept = [*own.tensors.values(), own.momentum["w"]["momentum_buffer"], rule.start["w"]]
    assert {t.device.type for t in [*kept, *(entry["w"] for entry in rule.history)]} == {"meta"}
    assert own.momentum["w"]["step"].device.type == "cpu"


def test_every_epoch_says_each_tasks_impact(config, run_in):
    entry = {"hard": {"update": {"name": "temporal_ensemble", "coefficients": "inverse_impact"}}}
    _, folder = run_in(config([entry], PRETEXT), "hard")
    for row in rows(folder):
        if row["split"] == "train":
            shares = [row[f"alpha/{t}"] * row[f"impact/{t}"] for t in PRETEXT["tasks"]]
            assert shares == pytest.approx([shares[0]] * 3, rel=1e-6)
            assert sum(row[f"alpha/{t}"] for t in PRETEXT["tasks"]) == pytest.approx(1)
            assert row["beta"] >= 0


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("vgg16", {}, ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]),
        ("alexnet", {}, ["conv1", "conv2", "conv5"]),
        ("resnet18", {}, ["stem", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
        ("resnet18", {"stem": "small"}, ["layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
    ],
)
def test_the_convolutions_before_the_map_shrinks(name, options, expected):
    backbone = backbones.build(name, channels=3, width=0.25, **options)
    found = before_shrinking(backbone)
    assert len(found) == len(expected)
    numbers = [layer.out_channels for layer in found]
    assert numbers == sorted(numbers)


def test_a_pool_that_ends_its_unit_counts_there_and_a_decoder_does_not():
    backbone = backbones.build("residual_segnet", channels=3, width=0.25)
    names = {id(module): name for name, module in backbone.named_modules()}
    found = [names[id(layer)] for layer in before_shrinking(backbone)]
    assert [name.removeprefix("units.") for name in found] == [
        f"enc{i}.sampler.0" for i in range(1, 6)
    ]


def test_a_backbone_without_such_convolutions_is_refused_by_name(config):
    printed = {"source": "printed_digits", "count": 60, "size": 16}
    network = {"name": "vit_tiny_patch16_224"}
    changes = {**ONE, "data": {"printed": printed}, "backbone": network}
    with pytest.raises(UserError, match=r"update\.layers: got pools; .*Set layers: all"):
        preflight.check(config([{"hard": {"update": BARE}}], changes))


def test_a_frozen_trunk_leaves_nothing_to_combine(config, run_in):
    chosen = config([{"hard": {"update": BARE}}], epochs=1, trainable="heads")
    with pytest.raises(UserError, match=r"train\.trainable: leaves none .* Set update: joint"):
        run_in(chosen, "hard")


def test_vgg16_has_37_percent_of_its_weights_there():
    with torch.device("meta"):
        backbone = backbones.build("vgg16", channels=3)
    inside = sum(layer.weight.numel() for layer in before_shrinking(backbone))
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert inside == 5_492_736
    assert sum(layer.weight.numel() for layer in convolutions) == 14_710_464

"""Attention per task and stage, against the paper's equations computed from the weights alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import QUARTER, TINY, a_batch, build, gradients, only, predictions, total_loss, train
from torch.nn import functional as F
from torch.testing import assert_close

from polytask.cost import measure
from polytask.sharing.trunk.mtan import resized

CLASSES = {"a": 2, "b": 3}
TRUNKS = {
    "resnet18": TINY,
    "resnet26": {**TINY, "name": "resnet26"},
    "vgg11_bn": {"name": "vgg11_bn", "width": 0.0625},
    "mobilenet_v2": {"name": "mobilenet_v2", "width": 0.1, "stem": "small"},
}
# The unit before the last of every stage, and the last, by the structure of the networks.
READ = {
    "resnet18": [(f"layer{i}.0", f"layer{i}.1") for i in (1, 2, 3, 4)],
    "resnet26": [(f"layer{i}.0", f"layer{i}.1") for i in (1, 2, 3, 4)],
    "vgg11_bn": [
        ("features.0", "features.0"),
        ("features.4", "features.4"),
        ("features.8", "features.11"),
        ("features.15", "features.18"),
        ("features.22", "features.25"),
    ],
    "mobilenet_v2": [(f"features.{i}", f"features.{i + 1}") for i in (0, 2, 5, 12, 17)],
}


def norm(x, weights, name, task=None):
    own = f"@{task}" if task else ""
    mean, var = (weights[f"{name}.running_{kind}{own}"] for kind in ("mean", "var"))
    shape = (-1, 1, 1)
    scaled = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + 1e-5)
    return scaled * weights[f"{name}.weight"].view(shape) + weights[f"{name}.bias"].view(shape)


def by_the_paper(method, task, images, extractor):
    """â of every stage from the trunk's maps and the saved tensors; no module of MTAN's runs."""
    w = method.state_dict()
    attended = None
    for j, (inner, last) in enumerate(READ[method.name]):
        u, p = (method.backbone.feature(method.backbone(images, unit)) for unit in (inner, last))
        read = u
        if attended is not None:
            f = f"extractors.{j - 1}"
            if extractor == "conv":
                carried = F.conv2d(attended, w[f"{f}.0.weight"], w[f"{f}.0.bias"], padding=1)
                carried = norm(carried, w, f"{f}.1", task).relu()
            else:
                first = F.conv2d(attended, w[f"{f}.body.0.weight"], padding=1)
                first = norm(first, w, f"{f}.body.1", task).relu()
                second = F.conv2d(first, w[f"{f}.body.3.weight"], padding=1)
                second = norm(second, w, f"{f}.body.4", task)
                passed = F.conv2d(attended, w[f"{f}.shortcut.0.weight"])
                carried = (second + norm(passed, w, f"{f}.shortcut.1", task)).relu()
            if carried.shape[-1] > u.shape[-1]:
                carried = F.max_pool2d(carried, carried.shape[-1] // u.shape[-1])
            read = torch.cat([u, carried], 1)
        m = f"tails.{task}.{j}.mask"
        hidden = F.conv2d(read, w[f"{m}.0.weight"], w[f"{m}.0.bias"])
        hidden = norm(hidden, w, f"{m}.1").relu()
        mask = torch.sigmoid(
            norm(F.conv2d(hidden, w[f"{m}.3.weight"], w[f"{m}.3.bias"]), w, f"{m}.4")
        )
        attended = mask * p
    pooled = attended.mean((2, 3))
    return pooled @ w[f"heads.{task}.2.weight"].T + w[f"heads.{task}.2.bias"]


@pytest.mark.parametrize(
    ("trunk", "extractor"), [*((trunk, "conv") for trunk in TRUNKS), ("resnet18", "block")]
)
def test_predictions_follow_the_papers_equations(trunk, extractor):
    options = {"extractor": extractor, "reduction": 4 if trunk == "resnet26" else 1}
    method = train(build("mtan", CLASSES, options, backbone=TRUNKS[trunk]), steps=2)
    method.name = trunk
    batch = a_batch(method, seed=7)
    found = predictions(method, batch)
    with torch.no_grad():
        for task in CLASSES:
            wanted = by_the_paper(method, task, batch.groups[0].images, extractor)
            assert_close(found[task], wanted, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 9))
def test_maps_shrink_to_any_smaller_size(side, wanted):
    """The largest of every cell; halving, even of odd sides, needs no adaptive cells."""
    wanted = min(side, wanted)
    maps = torch.rand(1, 2, side, side)
    small = resized(maps, (wanted, wanted))
    assert small.shape == (1, 2, wanted, wanted)
    assert small.max() == maps.max()
    if side % wanted == 0:
        assert torch.equal(small, F.max_pool2d(maps, side // wanted))


@pytest.mark.parametrize(("backbone", "hidden"), [("resnet18", 64), ("resnet26", 64)])
def test_behind_bottlenecks_the_hidden_layer_has_a_quarter_of_the_channels(backbone, hidden):
    method = build("mtan", {"a": 2}, backbone={"name": backbone, "width": 0.125, "stem": "small"})
    assert method.tails["a"].get_submodule("3.mask.0").out_channels == hidden


def test_a_tasks_parameters_are_the_published_one_and_a_half_trunks():
    """Quarter-width ResNet-18, residual-block extractors, five tasks."""
    five = {f"t{i}": 20 for i in range(5)}
    method = build("mtan", five, {"extractor": "block"}, backbone=QUARTER, size=32)
    cost = measure(method)
    head = 128 * 20 + 20
    trunk, attention, shared = 700_176, 66_464, 302_400
    assert {t.params for t in cost.tasks.values()} == {trunk + attention + shared + head}
    assert cost.total.params == trunk + 5 * attention + shared + 5 * head
    assert round((trunk + attention + shared) / trunk, 3) == 1.527
    assert abs((trunk + 5 * attention + shared) / trunk - 1.906) < 1e-3


def test_masks_of_one_leave_the_shared_trunk():
    classes = {"a": 2, "b": 3}
    method, hard = build("mtan", classes), build("hard", classes)
    for task in classes:
        last = method.tails[task][-1].mask[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, 100.0)
    ours, theirs = (predictions(m, a_batch(m)) for m in (method, hard))
    assert all(torch.equal(ours[task], theirs[task]) for task in classes)


def test_gradients_reach_the_trunk_and_the_extractors_but_no_other_tasks_masks():
    method = build("mtan", CLASSES)
    touched = gradients(method, total_loss(method, only(a_batch(method), "a")))
    assert not [name for name in touched if name.startswith(("tails.b", "heads.b"))]
    for kind in ("backbone.", "extractors.", "tails.a."):
        wanted = {name for name, _ in method.named_parameters() if name.startswith(kind)}
        assert wanted <= set(touched)


def test_masks_lie_between_0_and_1():
    method = train(build("mtan", CLASSES))
    seen = []
    for task in CLASSES:
        for mask in method.tails[task]:
            mask.register_forward_hook(lambda _, args, out: seen.append(out))
    predictions(method, a_batch(method))
    assert len(seen) == 8
    assert all(((mask > 0) & (mask < 1)).all() for mask in seen)


def test_extractors_keep_statistics_of_each_task():
    """Trained on tasks whose images differ, each is evaluated with the statistics of its own."""
    method = build("mtan", CLASSES).train()
    for seed in range(40):
        for task, shift in (("a", 0.0), ("b", 3.0)):
            batch = only(a_batch(method, seed=seed), task)
            batch.groups[0].images += shift
            with torch.no_grad():
                method(batch)
    first = method.extractors[0][1]
    assert (first.bank("a").mean - first.bank("b").mean).abs().max() > 0.05
    assert first.bank("a").weight is first.bank("b").weight

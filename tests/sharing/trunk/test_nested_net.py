"""Levels: each a part of the next, the last the dense network, trained on their mean."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import QUARTER, TINY, a_batch, build, gradients, only, predictions, total_loss, train
from torch import nn
from torch.testing import assert_close

from polytask.backbones.norm import BatchNorm
from polytask.cost import measure
from polytask.errors import UserError
from polytask.phase import Phase
from polytask.sharing.trunk.nested_net import rank

CLASSES = {"a": 2, "b": 3, "c": 4}
FIVE = {f"t{i}": 20 for i in range(5)}
RATIOS = (0.35, 0.57, 0.74, 0.83, 1.0)
MOBILENET = {"name": "mobilenet_v2", "width": 0.25, "stem": "small"}
SE = {"name": "se_resnet50", "width": 0.0625, "stem": "small"}
VGG = {"name": "vgg11", "width": 0.0625}
SCHEMES = ["channel", "weight"]


def convolutions(path):
    return [layer for layer in path.units.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_last_level_is_the_dense_network(scheme):
    method = train(build("nested_net", CLASSES, {"scheme": scheme}))
    hard = build("hard", CLASSES)
    own = method.state_dict()
    weights = {n: own.get(n, own.get(f"{n}@all%2F1")) for n in hard.state_dict()}
    weights |= {
        n: v for n, v in hard.state_dict().items() if n.startswith("heads.") and "c" not in n
    }
    hard.load_state_dict(weights)
    batch = only(a_batch(method), "c")
    assert torch.equal(predictions(method, batch)["c"], predictions(hard, batch)["c"])


@pytest.mark.parametrize("backbone", [TINY, VGG, MOBILENET, SE], ids=lambda b: b["name"])
def test_a_level_is_the_first_channels_of_every_layer(backbone):
    """Its path holds the first ⌈√ρ·C⌉ channels of the dense path and says what the level says."""
    method = train(build("nested_net", CLASSES, {"ratios": [0.2, 0.6, 1.0]}, backbone=backbone))
    paths = {task: method.path(task) for task in CLASSES}
    batch = a_batch(method, seed=5)
    found = predictions(method, batch)
    dense = convolutions(paths["c"])
    for task, ratio in (("a", 0.2), ("b", 0.6)):
        share = math.sqrt(ratio)
        first, *rest = narrow = convolutions(paths[task])
        assert first.in_channels == 3
        for layer, whole in zip(narrow, dense, strict=True):
            assert layer.out_channels == math.ceil(share * whole.out_channels)
            outputs, inputs = layer.weight.shape[:2]
            assert torch.equal(layer.weight, whole.weight[:outputs, :inputs])
        assert all(
            layer.in_channels <= whole.in_channels
            for layer, whole in zip(rest, dense[1:], strict=True)
        )
        with torch.no_grad():
            alone = paths[task](batch.groups[0].images)
        assert_close(found[task], alone, rtol=1e-5, atol=1e-5)


def test_published_levels_at_quarter_width():
    """Shares of parameters within a channel of the wanted ones; MACs fall with them."""
    method = build("nested_net", FIVE, backbone=QUARTER, size=32)
    assert tuple(method.ratios.values()) == RATIOS
    cost = measure(method)
    trunk = [sum(u.params for u in task.units) for task in cost.tasks.values()]
    for params, ratio in zip(trunk, RATIOS, strict=True):
        assert params / 700_176 == pytest.approx(ratio, abs=0.02)
    macs = [task.macs for task in cost.tasks.values()]
    assert all(one < other for one, other in pairwise(macs))
    assert macs[0] / macs[-1] == pytest.approx(0.35, abs=0.03)
    assert all(task.effective_macs == task.macs for task in cost.tasks.values())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_outside_a_level_do_not_change_it(scheme):
    method = train(build("nested_net", CLASSES, {"scheme": scheme, "ratios": [0.3, 0.6, 1.0]}))
    batch = a_batch(method, seed=5)
    before = predictions(method, batch)
    with torch.no_grad():
        for name in method.backbone.names:
            if scheme == "weight":
                for _, layer, is_masked in method._masks("a", name):
                    layer.weight.add_(is_masked.float())
                continue
            for layer in method.backbone.unit(name).modules():
                if isinstance(layer, nn.Conv2d):
                    layer.weight[math.ceil(math.sqrt(0.3) * layer.out_channels) :].add_(1)
                    if not layer.reads_images:
                        layer.weight[:, math.ceil(math.sqrt(0.3) * layer.in_channels) :].add_(1)
    after = predictions(method, batch)
    assert torch.equal(after["a"], before["a"])
    assert not torch.equal(after["b"], before["b"])


def test_masks_are_nested_and_hold_the_largest_weights():
    method = build("nested_net", CLASSES, {"scheme": "weight", "ratios": [0.3, 0.6, 1.0]})
    for name in method.backbone.names:
        levels = [list(method._masks(task, name)) for task in CLASSES]
        for layers in zip(*levels, strict=True):
            weight = layers[0][1].weight.abs()
            for (_, _, smaller), (_, _, larger) in pairwise(layers):
                assert not (larger & ~smaller).any()
            for (_, _, is_masked), ratio in zip(layers, (0.3, 0.6, 1.0), strict=True):
                assert int((~is_masked).sum()) == math.ceil(ratio * weight.numel() - 1e-9)
                if is_masked.any():
                    assert weight[~is_masked].min() >= weight[is_masked].max()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_ranks_are_a_permutation_by_size(values):
    weight = torch.tensor(values, dtype=torch.float32)
    places = rank(weight).tolist()
    assert sorted(places) == list(range(len(values)))
    wanted = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    assert [places[i] for i in wanted] == list(range(len(values)))


def test_masked_weights_get_the_gradient_straight_through():
    """The gradient at the masked weights is that of a network whose weights are masked."""
    method = build("nested_net", CLASSES, {"scheme": "weight", "ratios": [0.3, 0.6, 1.0]})
    batch = only(a_batch(method), "a")
    found = gradients(method, total_loss(method, batch))
    path = method.path("a").train()
    loss, weight = method.tasks["a"].loss(
        path(batch.groups[0].images), batch.groups[0].targets["a"].value
    )
    (loss.sum() / weight.sum()).backward()
    masked = False
    for unit, copied in zip(method.backbone.names, path.units, strict=True):
        for inside, _, is_masked in method._masks("a", unit):
            own = copied.get_submodule(inside).weight.grad
            name = f"backbone.units.{unit.replace('.', '_')}.{inside}.weight"
            assert_close(found[name], own)
            masked |= bool(found[name][is_masked].any())
    assert masked


def test_weights_are_ranked_again_between_epochs_but_not_after_the_last():
    method = build("nested_net", CLASSES, {"scheme": "weight", "rerank_every": 2})
    layer = method.backbone.unit("layer1.0").conv1
    order = method.get_buffer("rank@layer1_0/conv1")
    phase = Phase(epochs=4)
    changed = []
    for epoch in range(4):
        before = order.clone()
        layer.weight.data = torch.randn(
            layer.weight.shape, generator=torch.Generator().manual_seed(epoch)
        )
        method.on_epoch_end(SimpleNamespace(epoch=epoch, phase=phase))
        changed.append(not torch.equal(order, before))
    assert changed == [False, True, False, False]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_loss_is_the_mean_of_the_levels(scheme):
    method = build("nested_net", CLASSES, {"scheme": scheme})
    batch = a_batch(method)
    summed = gradients(method, total_loss(method, batch))
    method.after_backward(None)
    for name, parameter in method.named_parameters():
        assert_close(parameter.grad, summed[name] / 3)


def test_tasks_of_one_ratio_share_their_level():
    method = build("nested_net", CLASSES, {"ratios": [0.5, 1.0, 0.5]}).train()
    seen = []
    method.backbone.unit("layer3.0").conv1.register_forward_hook(
        lambda m, args, out: seen.append(out.shape[1])
    )
    method(a_batch(method))
    assert seen == [math.ceil(math.sqrt(0.5) * 16), 16]


@pytest.mark.parametrize(("bn", "counts"), [("per_level", 3), ("common", 1)])
def test_levels_keep_statistics_of_their_own(bn, counts):
    method = train(build("nested_net", CLASSES, {"bn": bn}))
    norm = method.backbone.unit("layer2.0").bn1
    assert isinstance(norm, BatchNorm)
    means = {n: b for n, b in norm.named_buffers() if n.startswith("running_mean")}
    assert len(means) == counts
    narrowest = next(iter(means.values()))
    if bn == "per_level":
        assert narrowest[:6].all()
        assert not narrowest[math.ceil(math.sqrt(0.5) * 8) :].any()


def test_a_mask_saves_nothing_in_dense_kernels():
    cost = measure(build("nested_net", CLASSES, {"scheme": "weight"}))
    tasks = cost.tasks.values()
    assert len({task.macs - 32 * i for i, task in enumerate(tasks)}) == 1
    shares = [task.effective_macs / task.macs for task in tasks]
    assert shares == pytest.approx([0.5, 0.8, 1.0], abs=0.01)


def test_layers_that_have_no_channels_to_leave_out_are_told():
    with pytest.raises(UserError, match=r"ConvNeXtBlock") as error:
        build("nested_net", {"a": 2}, backbone={"name": "convnext_atto", "width": 0.2})
    assert error.value.faults[0].where == "scheme"
    assert "scheme: weight" in error.value.faults[0].hint


def test_wrong_ratios_are_told():
    with pytest.raises(UserError, match=r"2 entries.*3 tasks") as error:
        build("nested_net", CLASSES, {"ratios": [0.5, 1.0]})
    assert error.value.faults[0].where == "ratios"


def test_channels_that_a_level_lacks_have_the_largest_levels_statistics():
    """A start from the run joins what the levels' norms keep."""
    method = train(build("nested_net", {"a": 2, "b": 3}, {"ratios": [0.25, 1.0]}))
    method.on_epoch_end(SimpleNamespace(epoch=0, phase=SimpleNamespace(epochs=1)))
    for norm in (norm for norm in method.backbone.modules() if isinstance(norm, BatchNorm)):
        narrow, whole = map(norm.bank, norm.keys)
        half = math.ceil(norm.num_features / 2)
        assert torch.equal(narrow.mean[half:], whole.mean[half:])
        assert torch.equal(narrow.var[half:], whole.var[half:])
    assert not torch.equal(narrow.var[:half], whole.var[:half])  # of the last norm

"""Adapters: the frozen network at the start, and a trunk that nothing moves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import TINY, a_batch, build, only, predictions, run_phase, total_loss
from torch.nn import functional as F
from torch.testing import assert_close

from polytask.backbones.norm import BatchNorm
from polytask.cost import measure
from polytask.errors import UserError
from polytask.phase import Phase, Schedule
from polytask.sharing.trunk.adapters import LowRank

CLASSES = {"a": 2, "b": 3, "c": 4}
NETWORKS = {
    "resnet": TINY,
    "convnext": {"name": "convnext_atto", "width": 0.1, "stem": "small"},
    "vit": {"name": "vit_tiny_patch16_224", "size": (16, 16)},
}
each_network = pytest.mark.parametrize("backbone", NETWORKS.values(), ids=NETWORKS)


def trained(options=None, backbone=TINY, phase=None):
    method = build("adapters", CLASSES, options, backbone=backbone)
    before = {n: v.clone() for n, v in method.state_dict().items()}
    (planned,) = method.plan(Schedule(epochs=1))
    run_phase(method, phase or planned, lr=0.2)
    return method, before


def moved(method, before):
    return {n for n, value in method.state_dict().items() if not torch.equal(value, before[n])}


@pytest.fixture(scope="module")
def done():
    return trained()


@each_network
def test_training_starts_from_the_frozen_network(backbone):
    """Bit for bit what `hard` predicts from the same weights."""
    adapters, hard = (build(name, CLASSES, backbone=backbone) for name in ("adapters", "hard"))
    batch = a_batch(hard)
    assert all(
        torch.equal(found, expected)
        for found, expected in zip(
            predictions(adapters, batch).values(), predictions(hard, batch).values(), strict=True
        )
    )


@each_network
def test_nothing_of_the_trunk_ever_moves(backbone):
    """Weights and statistics, under momentum 0.9 and decay 5e-4; adapters and heads do."""
    method, before = trained(backbone=backbone)
    names = moved(method, before)
    assert {name.split(".")[0] for name in names} == {"adapters", "heads"}
    assert {n for n in before if n.startswith("adapters.")} <= names
    norms = [m for m in method.train().backbone.modules() if isinstance(m, BatchNorm)]
    assert not any(norm.training for norm in norms)


def test_one_task_learns_and_the_others_predict_what_they_did():
    method = build("adapters", CLASSES)
    batch = a_batch(method, seed=99)
    before = predictions(method, batch)
    run_phase(method, Phase(tasks=("b",), trainable=(r"\.b\.",)))
    after = predictions(method, batch)
    assert [t for t in CLASSES if not torch.equal(before[t], after[t])] == ["b"]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 3]))
def test_a_convolution_takes_a_second_way_of_few_channels(outputs, inputs, rank, kernel):
    """conv(x, W + s·B·A) = conv(x, W) + s·B(A x): A a convolution of r kernels, B one of 1×1."""
    generator = torch.Generator().manual_seed(outputs + 7 * inputs)
    weight, x = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((outputs, inputs, kernel, kernel), (2, inputs, 5, 4))
    )
    low = LowRank(weight, rank, scale=0.5).double()
    torch.nn.init.normal_(low.up)
    assert low.down.shape[0] == min(rank, outputs, inputs * kernel**2)
    second = F.conv2d(x, low.down.view(-1, inputs, kernel, kernel), padding=kernel // 2)
    expected = F.conv2d(x, weight, padding=kernel // 2)
    expected = expected + 0.5 * F.conv2d(second, low.up[:, :, None, None])
    assert_close(F.conv2d(x, low(weight), padding=kernel // 2), expected)


def test_worked_numbers_of_a_linear_layer():
    """W = I, B = (1, 2)ᵀ, A = (3, 4), α/r = 0.5: W + [[1.5, 2], [3, 4]]."""
    low = LowRank(torch.eye(2), 1, scale=0.5)
    low.down.data, low.up.data = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [2.0]])
    assert low(torch.eye(2)).tolist() == [[2.5, 2.0], [3.0, 5.0]]


def test_a_path_differs_from_the_frozen_network_by_the_wanted_rank(done):
    method, _ = done
    frozen = dict(method.backbone.unit("layer4.1").named_parameters())
    layers = dict(method.path("a").units[-1].named_parameters())
    for name in method.adapted["layer4.1"]:
        weight = f"{name}.weight"
        change = (layers[weight] - frozen[weight]).flatten(1)
        assert change.abs().max() > 0
        assert torch.linalg.svdvals(change)[4:].max() < 1e-6


def test_costs_tell_the_few_numbers_of_a_task(done):
    """r·(inputs·k·k + outputs) a layer and the head; the path costs what the frozen one does."""
    method, _ = done
    cost, hard = measure(method), measure(build("hard", CLASSES))
    low = sum(
        min(4, w.shape[0], w[0].numel()) * (w.shape[0] + w[0].numel())
        for w in method.backbone.parameters()
        if w.ndim == 4
    )
    trunk = sum(p.numel() for p in method.backbone.parameters())
    for task, classes in CLASSES.items():
        head = classes * (32 + 1)
        assert cost.tasks[task].own_params == low + head
        assert hard.tasks[task].own_params == head
        assert cost.tasks[task].params == hard.tasks[task].params == trunk + head
        assert cost.tasks[task].macs == hard.tasks[task].macs
    assert cost.total.params == trunk + sum(t.own_params for t in cost.tasks.values())


def runs_of(method, unit):
    """How often a unit runs for a batch with labels of every task."""
    count = []
    handle = method.backbone.unit(unit).register_forward_hook(lambda *_: count.append(1))
    predictions(method, a_batch(method))
    handle.remove()
    return len(count)


def test_units_before_the_first_adapted_one_run_once():
    last = build("adapters", CLASSES, {"layers": r"layer4\.1"})
    assert [runs_of(last, unit) for unit in ("stem", "layer4.0", "layer4.1")] == [1, 1, 3]
    assert set(last.adapters["a"]) == {"lora@layer4_1/conv1", "lora@layer4_1/conv2"}
    none = build("adapters", CLASSES, {"rank": 0, "filter": True})
    assert runs_of(none, "layer4.1") == 1
    assert {n.split(".")[0] for n, p in none.named_parameters() if p in none.view("a")} == {
        "filters",
        "heads",
    }


def test_alpha_scales_what_is_added():
    """α/r = 1 by default, 2/4 with α = 2; rank 1 changes the draw of A, not its size."""
    methods = [build("adapters", CLASSES, options) for options in ({}, {"alpha": 2.0})]
    assert [next(m.adapters["a"].children()).scale for m in methods] == [1.0, 0.5]


def test_a_gradient_of_one_task_stays_out_of_the_trunk_and_of_others():
    method = build("adapters", CLASSES).train()
    total_loss(method, only(a_batch(method), "b")).backward()
    reached = {n.split(".")[1] for n, p in method.named_parameters() if p.grad is not None}
    assert reached == {"b"}


def test_layers_that_nothing_matches_are_told():
    with pytest.raises(UserError, match='"layre4", which matches no layer') as error:
        build("adapters", CLASSES, {"layers": "layre4"})
    assert error.value.faults[0].where == "layers"

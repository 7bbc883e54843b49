"""Kernel sharing as a method: what it equals, what it bakes, what it remembers."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from polytask.cost import measure
from polytask.phase import Schedule
from polytask.sharing.columns.kernel_sharing import KernelSharingOptions
from polytask.sharing.method import Outputs
from polytask.training.dry_run import dry_run

PRECISE = {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}, "clip": 1.0}


def at_update(updates, step_in_epoch=1):
    return SimpleNamespace(updates=updates, step_in_epoch=step_in_epoch)


def weights(folder):
    return load_file(folder / "model.safetensors")


# Invariant 1: without a pair, the single networks bit for bit.


@pytest.mark.parametrize(
    ("options", "top"),
    [
        ({"threshold": 1.01}, {}),
        ({"threshold": 1.01, "update": "inplace", "phi": "learned"}, {"mixing": "integrated"}),
        ({"threshold": 0.99999}, {"init": "independent"}),
    ],
)
def test_without_pairs_columns_end_as_single_networks(config, run_in, options, top):
    made = config(["single", {"kernel_sharing": options}], top, **PRECISE)
    alone, single = run_in(made, "single")
    shared, folder = run_in(made, "kernel_sharing")
    one, other = weights(single), weights(folder)
    learned = {name for name in one if name.startswith(("columns.", "heads."))}
    assert learned == {name for name in other if name.startswith(("columns.", "heads."))}
    assert not [name for name in learned if not torch.equal(one[name], other[name])]
    assert alone["tasks"] == shared["tasks"]
    assert alone["samples"] == shared["samples"]


def test_shared_kernels_change_what_columns_learn(config, run_in):
    """The same comparison with pairs, so that the one above can fail."""
    made = config(["single", "kernel_sharing"], **PRECISE)
    _, single = run_in(made, "single")
    _, folder = run_in(made, "kernel_sharing")
    one, other = weights(single), weights(folder)
    assert any(not torch.equal(one[name], other[name]) for name in one)


# Training: searches, resuming, the record.


@pytest.mark.parametrize("options", [{}, {"update": "inplace", "phi": "similarity"}])
def test_a_run_stopped_between_searches_ends_in_the_same_bits(config, run_in, options):
    entry = {"kernel_sharing": {"refresh_every": 3, "threshold": 0.9, **options}}
    made = config([entry], **PRECISE)
    _, straight = run_in(made, "kernel_sharing")
    _, stopped = run_in(made, "kernel_sharing", "stopped", stops=(1, 4, 5))
    assert (straight / "model.safetensors").read_bytes() == (
        stopped / "model.safetensors"
    ).read_bytes()
    record = "plots/kernel_sharing.json"
    assert (straight / record).read_text() == (stopped / record).read_text()


def test_the_ratios_of_every_layer_and_epoch_are_kept(config, run_in):
    _, folder = run_in(config([{"kernel_sharing": {"threshold": 0.9}}]), "kernel_sharing")
    record = json.loads((folder / "plots" / "kernel_sharing.json").read_text())
    assert record["columns"] == ["read_handwriting", "read_print"]
    assert len(record["layers"]) == 12  # ResNet-10's convolutions, three shortcuts among them
    for layer in record["layers"].values():
        assert layer["is_shareable"]
        assert len(layer["participation"]) == len(layer["compression"]) == 3  # start, two epochs
        assert layer["participation"][0] == 1.0  # equal starts: every kernel meets its twin


@pytest.mark.parametrize("init", ["common", "independent"])
def test_how_much_is_shared_at_the_start(build, init):
    """Twins under a common start; hardly a chance under independent ones, but in small kernels."""
    method = build("kernel_sharing", {"threshold": 0.9, "init": init}, tasks=3)
    method.on_phase_start(at_update(0))
    layers = method.explained()["kernel_sharing"]["layers"]
    deep = [layer for name, layer in layers.items() if not name.startswith("features.0")]
    for layer in deep:
        wanted = (1.0, 1 - 1 / 3) if init == "common" else (0.0, 0.0)
        assert (layer["participation"][0], layer["compression"][0]) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("update", "step_in_epoch", "found"),
    [
        ("functional", 1, [True, True, False]),
        ("functional", 0, [False] * 3),
        ("inplace", 0, [False] * 3),
    ],
)
def test_pairs_are_searched_every_so_many_updates(build, update, step_in_epoch, found):
    """And at the first step of every epoch, so that what an epoch shared is never older."""
    method = build("kernel_sharing", {"refresh_every": 3, "threshold": 0.9, "update": update})
    bank = next(iter(method.banks.values()))
    with torch.no_grad():
        for weight in method.columns["b"].parameters():
            weight.neg_()
    linked = []
    for updates in (1, 2, 3):
        method.before_forward(at_update(updates, step_in_epoch))
        linked.append(bool(bank.linked(0, 1).any()))
    assert linked == found


# Gradients and paths.


def test_views_follow_the_pairs(build):
    """Columns turned around have no pair, and no gradient crosses; a learned weight goes along."""
    method = build("kernel_sharing", {"threshold": 0.9, "phi": "learned"}, tasks=3)
    with torch.no_grad():
        for weight in method.columns["c"].parameters():
            weight.neg_()
    method.refresh()
    own = {t: set(method.columns[t].parameters()) for t in "abc"}
    assert method.view("a") & own["b"] == {w for w in own["b"] if w.dim() == 4}
    assert not method.view("a") & own["c"]
    assert not method.view("c") & (own["a"] | own["b"])
    phis = {n: p for n, p in method.named_parameters() if ".phi_" in n}
    assert {n for n, p in phis.items() if p in method.view("a")} == {
        n for n in phis if n.endswith("phi_0_1")
    }


def test_a_path_holds_the_effective_kernels(build):
    """Twins that drifted apart: the path's kernel is their mean, the raw ones stay."""
    method = build("kernel_sharing", {"threshold": 0.9}).eval()
    with torch.no_grad():
        for weight in method.parameters():
            weight.add_(torch.randn_like(weight), alpha=1e-3 * float(weight.abs().mean()))
    unit = "features.3"
    one, other = (method.columns[t].unit(unit).conv.weight for t in "ab")
    assert not torch.equal(one, other)
    for task in "ab":
        baked = method.path(task).parts()[f"{task}/{unit}"].conv.weight
        assert_close(baked, (one + other) / 2)


def test_what_is_shared_in_place_is_equal_after_a_step(build, batch_for):
    """Two tasks, pairs one to one: tied by every step, and never untied."""
    method = build("kernel_sharing", {"threshold": 0.9, "update": "inplace", "refresh_every": 1})
    method.on_phase_start(at_update(0))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    for update in range(3):
        losses = method(batch_for(method, seed=update)).predictions
        torch.stack([p.square().sum() for p in losses.values()]).sum().backward()
        optimizer.step()
        kernels = [method.weights(layer) for layer in method.layers]
        assert any(not torch.equal(one, other) for one, other in kernels)
        method.after_step(at_update(update))
        assert all(torch.equal(one, other) for one, other in kernels)
    assert all(p == (1.0, 0.5) for p in map(tuple, (b.ratios() for b in method.banks.values())))


def test_a_dry_run_expects_no_gradient_where_nothing_is_paired(config):
    """Independent starts: learned weights of layers without a pair have nothing to learn from."""
    options = {"phi": "learned", "threshold": 0.9, "init": "independent"}
    made = config([{"kernel_sharing": options}])
    lines = list(dry_run(made, [made.method("kernel_sharing")], 0))
    assert [line.split(" loss ")[0] for line in lines] == [
        "kernel_sharing: read_handwriting",
        "kernel_sharing: read_print",
    ]


# Groups, shapes, the penalty.


def test_groups_keep_to_themselves(build):
    method = build("kernel_sharing", {"threshold": 0.9, "groups": [["d", "b"]]}, tasks=4)
    for bank in method.banks.values():
        assert bank.pairs == [(1, 3)]
    assert set(method.view("a")) & set(method.columns["c"].parameters()) == set()


@pytest.mark.parametrize(
    "options", [{"phi": "learned", "phi_self": 0.7}, {"phi": "similarity", "threshold": -0.1}]
)
def test_options_that_do_not_go_together(options):
    with pytest.raises(ValueError, match="expected"):
        KernelSharingOptions(**options)


def test_kernels_of_other_shapes_are_not_shared(build, batch_for):
    """Grey and coloured images: first convolutions differ, all others may be shared."""
    sizes = [(1, 16, 16), (3, 20, 24)]
    method = build("kernel_sharing", {"threshold": 0.0}, sizes=sizes).eval()
    layers = method.explained()["kernel_sharing"]["layers"]
    assert [name for name, layer in layers.items() if not layer["is_shareable"]] == [
        "features.0.conv"
    ]
    batch = batch_for(method)
    with torch.no_grad():
        together = method(batch).predictions
        for task, group in zip("ab", batch.groups, strict=True):
            assert torch.equal(together[task], method.path(task)(group.images))


@pytest.mark.parametrize(("reduction", "counts"), [("literal", (1, 1)), ("mean", (50, 80))])
def test_the_penalty_is_on_raw_kernels(build, batch_for, reduction, counts):
    method = build("kernel_sharing", {"l2": 0.1, "l2_reduction": reduction})
    method.plan(Schedule(1, samples={"x": 50, "y": 80}, data_of={"a": "x", "b": "y"}))
    (term,) = method.extra_losses(batch_for(method), Outputs())
    squares = [
        sum(float(w.detach().square().sum()) for w in column.parameters() if w.dim() == 4)
        for column in method.columns.values()
    ]
    expected = sum(s / n for s, n in zip(squares, counts, strict=True))
    assert float(term.value.detach()) * term.weight == pytest.approx(0.1 * expected, rel=1e-5)
    (alone,) = method.extra_losses(batch_for(method, {"a": None}), Outputs())
    assert float(alone.value.detach()) == pytest.approx(squares[0] / counts[0], rel=1e-5)


def test_the_worked_objective(build, batch_for):
    """CE of logits (2, 1, 0) with label 0, and λ = 0.1 on kernels with ‖A‖² = 9."""
    method = build("kernel_sharing", {"l2": 0.1, "l2_reduction": "literal"}, tasks=3)
    with torch.no_grad():
        for weight in method.columns["a"].parameters():
            weight.zero_()
        first = method.columns["a"].unit("features.0").conv.weight
        first.view(-1)[:12] = torch.tensor([1.0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1, -1])
    (term,) = method.extra_losses(batch_for(method, {"a": None}), Outputs())
    loss, weight = method.tasks["a"].loss(torch.tensor([[2.0, 1, 0]]), torch.tensor([0]))
    ce = float(loss.sum() / weight.sum())
    assert ce == pytest.approx(0.407606, abs=1e-6)
    assert ce + float(term.value.detach()) * term.weight == pytest.approx(1.307606, abs=1e-6)


def test_mixed_precision_mixes_in_full_precision(build):
    method = build("kernel_sharing", {"threshold": 0.9})
    with torch.autocast("cpu", torch.bfloat16):
        kernels = method.effective()
    assert {kernel.dtype for _, kernel in kernels} == {torch.float32}


def test_a_network_without_values_has_views_and_a_cost(build):
    """What `cost` and `search` count: on the meta device no pair is known, and none is needed."""
    method = build("kernel_sharing", {"threshold": 0.3}, tasks=3)
    real, ghost = measure(method), measure(method.to("meta"))
    assert real.total == ghost.total
    assert [method.view(task) & method.view("c") for task in "ab"] == [set(), set()]

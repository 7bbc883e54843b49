"""Packing: who owns which weight, and that nothing of a finished task ever changes."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import QUARTER, TINY, a_batch, build, only, predictions, run_phase, total_loss
from torch import nn

from polytask.cost import measure
from polytask.errors import UserError
from polytask.phase import Schedule
from polytask.sharing.trunk.packnet import free_smallest

CLASSES = {"a": 2, "b": 3, "c": 4}
VGG = {"name": "vgg11", "width": 0.0625}


def phases_of(method, epochs=3, match="samples"):
    return method.plan(Schedule(epochs=epochs, match=match))


def packed(options=None, backbone=TINY, until=None):
    """After all phases, or those up to the named one; what each task said when it was done."""
    method = build("packnet", CLASSES, options, backbone=backbone)
    batch = a_batch(method, seed=99)
    said = {}
    for phase in phases_of(method):
        run_phase(method, phase)
        said[phase.tasks[0]] = predictions(method, batch)[phase.tasks[0]]
        if phase.name == until:
            break
    return method, batch, said


@pytest.fixture(scope="module")
def done():
    """All tasks packed at the default capacities: 0.5, 0.8, 1."""
    return packed()


def owners(method):
    return {n: b for n, b in method.named_buffers() if n.startswith("owner@")}


@pytest.mark.parametrize("case", ["per_task", "first_task", "biases"])
def test_finished_tasks_keep_every_bit_while_others_train(done, case):
    """Under momentum 0.9 and decay 5e-4, which move a weight whose gradient is 0."""
    cases = {"first_task": ({"bn": "first_task"}, TINY), "biases": ({}, VGG)}
    method, batch, said = packed(*cases[case]) if case in cases else done
    after = predictions(method, batch)
    assert all(torch.equal(after[task], said[task]) for task in CLASSES)
    assert len({tuple(v.flatten()[:2].tolist()) for v in said.values()}) == 3


def test_the_optimizer_alone_would_move_frozen_weights():
    """Why values are put back: the worked number of SGD with decay on a gradient of 0."""
    w = nn.Parameter(torch.ones(1, dtype=torch.float64))
    w.grad = torch.zeros_like(w)
    torch.optim.SGD([w], 0.1, momentum=0.9, weight_decay=5e-4).step()
    assert w.item() == pytest.approx(0.99995, abs=1e-12)


def test_weights_of_others_have_no_part_in_a_clipped_norm():
    method, batch, _ = packed(until="retrain_a")
    phase = next(phase for phase in phases_of(method) if phase.name == "train_b")
    run = SimpleNamespace(phase=phase, train=SimpleNamespace(clip=1.0))
    method.on_phase_start(run)
    total_loss(method, only(batch, "b")).backward()
    method.after_backward(run)
    for name in method.backbone.names:
        for _, layer, owner in method.layers(name):
            assert (layer.weight.grad[owner == 1] == 0).all()
            assert (layer.weight.grad[owner == 2] != 0).any()


def test_owners_part_the_weights_in_the_wanted_shares(done):
    method, _, _ = done
    for owner in owners(method).values():
        n = owner.numel()
        counts = [int((owner == k).sum()) for k in range(4)]
        assert counts[0] == 0
        assert sum(counts) == n
        for k, share in enumerate((0.5, 0.8, 1.0), start=1):
            assert abs(sum(counts[1 : k + 1]) - share * n) <= 0.5


def test_owners_are_told(done):
    told = done[0].explained()["packnet"]
    assert told["tasks"] == ["a", "b", "c"]
    assert told["weights"]["stem.conv1"] == [54, 32, 22]  # of 4·3·3·3, at 0.5, 0.8 and 1
    assert len(told["weights"]) == len(owners(done[0]))


def test_what_is_left_free_is_zero():
    method, _, _ = packed({"capacities": [0.2, 0.4, 0.6]})
    for name in method.backbone.names:
        for _, layer, owner in method.layers(name):
            assert torch.equal(layer.weight == 0, owner == 0)
            assert (owner == 0).any()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.floats(0.01, 1))
def test_exactly_the_wanted_number_is_kept_whatever_the_ties(values, share):
    weight = torch.tensor([values], dtype=torch.float32)
    owner = torch.ones_like(weight, dtype=torch.uint8)
    kept = round(share * len(values))
    free_smallest(weight, owner, 1, kept)
    assert int((owner == 1).sum()) == kept
    if 0 < kept < len(values):
        assert weight[owner == 1].abs().min() >= weight[owner == 0].abs().max()


def test_pruning_nothing_changes_nothing(done):
    method, _, _ = done
    before = {n: v.clone() for n, v in method.state_dict().items()}
    method.prune(3)
    after = method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_paths_come_in_any_order_and_leave_the_method_alone(done):
    method, batch, said = done
    state = {n: v.clone() for n, v in method.state_dict().items()}
    images = batch.groups[0].images
    with torch.no_grad():
        for task in ("c", "a", "b", "a", "c"):
            assert torch.equal(method.path(task)(images), said[task])
    assert all(torch.equal(state[n], v) for n, v in method.state_dict().items())


def test_predictions_are_those_of_a_plain_network_with_masked_weights(done):
    """The reference: hard sharing's network, its weights and norms written from the buffers."""
    method, batch, said = done
    state = method.state_dict()
    for number, task in enumerate(CLASSES, start=1):
        plain = build("hard", CLASSES)
        weights = {}
        for name in plain.state_dict():
            unit, _, inside = name.removeprefix("backbone.units.").partition(".")
            owner = state.get(f"owner@{unit}/{inside.removesuffix('.weight').replace('.', '_')}")
            value = state[name] if name in state else state[f"{name}@{task}"]
            weights[name] = value if owner is None else value * ((owner > 0) & (owner <= number))
        plain.load_state_dict(weights)
        assert torch.equal(predictions(plain, batch)[task], said[task])


def test_loaded_weights_hide_later_tasks_too(done):
    method, batch, said = done
    other = build("packnet", CLASSES, seed=3)
    other.load_state_dict(method.state_dict())
    found = predictions(other, batch)
    assert all(torch.equal(found[task], said[task]) for task in CLASSES)


def test_a_tasks_weights_reach_no_earlier_task(done):
    method, batch, _ = done
    method = copy.deepcopy(method)
    before = predictions(method, batch)
    with torch.no_grad():
        for name in method.backbone.names:
            for _, layer, owner in method.layers(name):
                layer.weight.add_((owner == 2).float())
    after = predictions(method, batch)
    assert torch.equal(after["a"], before["a"])
    assert not torch.equal(after["b"], before["b"])


def test_batch_norms_start_from_the_task_before():
    method, _, _ = packed(until="retrain_a")
    for phase in phases_of(method)[2:3]:
        run_phase(method, phase, steps=0)
    norm = method.backbone.unit("layer1.0").bn1
    assert torch.equal(norm.bank("a").mean, norm.bank("b").mean)
    assert norm.bank("a").mean.any()
    assert not norm.bank("c").mean.any()


def test_phases_share_the_epochs():
    method = build("packnet", CLASSES, {"retrain": 1 / 3})
    plan = phases_of(method, epochs=30)
    assert [(p.name, p.epochs) for p in plan] == [
        ("train_a", 20),
        ("retrain_a", 10),
        ("train_b", 20),
        ("retrain_b", 10),
        ("train_c", 30),
    ]
    assert all(p.joint_pace for p in plan)
    assert not any(p.joint_pace for p in phases_of(method, match="epochs"))


def test_published_capacities():
    five = build("packnet", {f"t{i}": 2 for i in range(5)})
    assert five.capacities == [0, 0.4, 0.6, 0.7, 0.8, 1]
    assert build("packnet", CLASSES).capacities == [0, 0.5, 0.8, 1]
    assert build("packnet", {"a": 2, "b": 2}).capacities == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("capacities", "text"), [([0.5], "1 entries.*3 tasks"), ([0.5, 0.4, 1.0], "above the one")]
)
def test_wrong_capacities_are_told(capacities, text):
    with pytest.raises(UserError, match=text) as error:
        build("packnet", CLASSES, {"capacities": capacities})
    assert error.value.faults[0].where == "capacities"


def test_costs_tell_dense_and_effective(done):
    """Before training as planned, which is what training leaves."""
    method, _, _ = done
    before = measure(build("packnet", CLASSES))
    after = measure(method)
    hard = measure(build("hard", CLASSES))
    for task in CLASSES:
        assert before.tasks[task] == after.tasks[task]
        assert after.tasks[task].params == hard.tasks[task].params
        assert after.tasks[task].macs == hard.tasks[task].macs
        masked = sum(int((owner > method.order[task]).sum()) for owner in owners(method).values())
        assert after.tasks[task].effective_params == after.tasks[task].params - masked
    shares = [after.tasks[task].effective_macs / after.tasks[task].macs for task in CLASSES]
    assert shares == pytest.approx([0.5, 0.8, 1.0], abs=0.01)


def test_the_papers_capacities_at_quarter_width():
    """Owned weights over all, to the digit of the paper's table 2."""
    method = build("packnet", {f"t{i}": 20 for i in range(5)}, backbone=QUARTER, size=32)
    cost = measure(method)
    shares = [t.effective_params / t.params for t in cost.tasks.values()]
    assert [round(share, 1) for share in shares] == [0.4, 0.6, 0.7, 0.8, 1.0]

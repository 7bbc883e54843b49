"""Policies: what they penalise, what a relaxed block computes, and what is really skipped."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from networks import a_batch, build, gradients, only, predictions, run_phase, total_loss, train
from torch.nn import functional as F
from torch.testing import assert_close

from polytask.backbones.norm import BatchNorm
from polytask.cost import measure
from polytask.errors import UserError
from polytask.phase import Phase, Schedule
from polytask.sharing.trunk.adashare import Relaxed, gumbel, sharing_loss, sparsity_loss

CLASSES = {"a": 2, "b": 3}
MOBILENET = {"name": "mobilenet_v2", "width": 0.5, "stem": "small"}
BLOCKS = 8


def searching(epochs=4, **options):
    """In the search, all blocks open, the choices of the last step drawn."""
    method = build("adashare", CLASSES, options)
    at(method, epochs - 1, epochs)
    return method.train()


def at(method, epoch, epochs, step=0, name="search", seed=0):
    phase = Phase(name, epochs)
    method.before_forward(SimpleNamespace(phase=phase, seed=seed, epoch=epoch, step_in_epoch=step))
    return method._drawn


def decided(choices, **options):
    """After the search, with the given choices; the weights as trained a little."""
    method = searching(**options)
    for task, runs in choices.items():
        logit = torch.tensor(runs, dtype=torch.float32) * 200 - 100
        method.policies[task].data = torch.stack([logit, -logit], 1)
    method.after_step(None)
    method.decide(0)
    return train(method)


# The penalties.


def test_worked_sparsity():
    assert_close(sparsity_loss(torch.full((8, 2), 0.5)).item(), math.log(2), atol=1e-6, rtol=0)
    assert_close(sparsity_loss(torch.tensor([[1.0, -1.0]])).item(), 2.126928, atol=1e-6, rtol=0)


def test_worked_sharing_of_the_official_code():
    one, other = torch.zeros(BLOCKS, 2), torch.zeros(BLOCKS, 2)
    other[:, 0] = 0.5
    assert_close(sharing_loss([one, other], official_code=True).item(), 2.25)
    late = torch.zeros(BLOCKS, 2)
    late[-1, 0] = 0.5
    assert_close(sharing_loss([one, late], official_code=True).item(), 0.5)


def test_sharing_compares_probabilities_and_weighs_early_blocks_more():
    """As in the paper: |α − α'| · (L − l)/L, here with α = 1/2 and 3/4."""
    one, other = (
        torch.zeros(BLOCKS, 2, dtype=torch.float64),
        torch.zeros(BLOCKS, 2, dtype=torch.float64),
    )
    other[:, 0] = math.log(3)
    assert_close(sharing_loss([one, other]).item(), 0.25 * 4.5)
    early = torch.zeros(BLOCKS, 2, dtype=torch.float64)
    early[0, 0] = math.log(3)
    assert_close(sharing_loss([one, early]).item(), 0.25)
    assert sharing_loss([one, early], first=1).item() == 0
    assert sharing_loss([one]).item() == 0


def test_three_tasks_pay_for_every_pair():
    policies = [torch.tensor([[math.log(odds), 0.0]]) for odds in (1.0, 3.0, 1 / 3)]
    assert_close(sharing_loss(policies).item(), 0.25 + 0.25 + 0.5)


def test_penalties_count_open_blocks_in_training_alone():
    method = searching()
    sparse, alike = method.extra_losses(None, None)
    assert_close(sparse.value.item(), 2 * math.log(2))
    assert (sparse.weight, alike.weight) == (0.05, 0.05)
    assert method.eval().extra_losses(None, None) == []
    assert build("adashare", CLASSES).train().extra_losses(None, None) == []


# The relaxed choice.


def test_a_cold_relaxation_is_one_hot():
    noise = gumbel(torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)))
    p = (noise / 1e-4).softmax(-1)[:, 0]
    assert ((p < 1e-3) | (p > 1 - 1e-3)).float().mean() > 0.99
    assert 0.45 < p.mean() < 0.55


def test_choices_follow_the_logits():
    """Of Gumbel-max: a block runs as often as softmax says."""
    noise = gumbel(torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0)))
    runs = (torch.tensor([math.log(3), 0.0]) + noise).argmax(-1) == 0
    assert_close(runs.float().mean().item(), 0.75, atol=0.01, rtol=0)


def test_choices_depend_on_seed_phase_and_step_alone():
    method = build("adashare", CLASSES)

    def drawn(*place, **more):
        return {task: p.detach().clone() for task, p in at(method, *place, **more).items()}

    first = drawn(2, 8, step=3)
    torch.rand(5)
    drawn(2, 8, step=4)
    again = drawn(2, 8, step=3)
    assert all(torch.equal(first[task], again[task]) for task in CLASSES)
    assert not torch.equal(first["a"], first["b"])
    for other in (drawn(2, 8, step=4), drawn(3, 8, step=3), drawn(2, 8, step=3, seed=1)):
        assert not torch.equal(first["a"], other["a"])


def reference(method, images, task, choices):
    """ResNet-18 from its tensors; x' = p·relu(F(x) + r(x)) + (1 − p)·r(x) block by block."""
    w = method.state_dict()

    def norm(x, name):
        own = f"@{task}" if f"{name}.running_mean@{task}" in w else ""
        mean, var = (w[f"{name}.running_{kind}{own}"] for kind in ("mean", "var"))
        return F.batch_norm(
            x, mean.clone(), var.clone(), w[f"{name}.weight"], w[f"{name}.bias"], True
        )

    u = "backbone.units"
    x = norm(F.conv2d(images, w[f"{u}.stem.conv1.weight"], padding=1), f"{u}.stem.bn1").relu()
    for i, p in enumerate(choices):
        unit, stride = f"{u}.layer{i // 2 + 1}_{i % 2}", 2 if i in (2, 4, 6) else 1
        inner = F.conv2d(x, w[f"{unit}.conv1.weight"], stride=stride, padding=1)
        inner = norm(inner, f"{unit}.bn1").relu()
        inner = norm(F.conv2d(inner, w[f"{unit}.conv2.weight"], padding=1), f"{unit}.bn2")
        r = x
        if stride == 2:
            r = norm(
                F.conv2d(x, w[f"{unit}.downsample.0.weight"], stride=2), f"{unit}.downsample.1"
            )
        x = p * (inner + r).relu() + (1 - p) * r
    return x.mean((2, 3)) @ w[f"heads.{task}.2.weight"].T + w[f"heads.{task}.2.bias"]


def test_a_relaxed_network_is_the_papers_formula():
    method = searching()
    batch = a_batch(method)
    with torch.no_grad():
        found = method(batch).predictions
        for task in CLASSES:
            choices = method._drawn[task]
            assert len(choices) == BLOCKS
            wanted = reference(method, batch.groups[0].images, task, choices)
            assert_close(found[task], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_relaxed_block_at_its_limits(p):
    """p = 1 is the block; p = 0 its shortcut, and no gradient reaches its weights."""
    unit = build("hard", CLASSES).backbone.unit("layer1.0").eval()
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = Relaxed(unit, torch.tensor(p))(x)
    assert torch.equal(found, unit(x) if p else x)
    found.sum().backward()
    assert all(bool(w.grad.any()) == bool(p) for w in (unit.conv1.weight, unit.conv2.weight))


def test_policies_learn_from_their_own_task():
    method = searching()
    found = gradients(method, total_loss(method, only(a_batch(method), "a")))
    assert found["policies.a"].all()
    assert "policies.b" not in found
    assert method.policies["a"] in method.view("a") - method.shared()


# The curriculum.


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({}, [2, 4, 6, 8]), ({"open_every": 3}, [1, 1, 1, 2])],
    ids=["spread", "every 3"],
)
def test_blocks_open_from_the_last(options, wanted):
    method = build("adashare", CLASSES, options)
    names = list(method.blocks)
    for turn, count in enumerate(wanted):
        for epoch in (2 * turn, 2 * turn + 1):
            at(method, epoch, 8)
            assert [n for n in names if method.is_open(n)] == names[BLOCKS - count :]


def test_the_temperature_falls_with_the_turns():
    """One noise, two temperatures: the logit of p is in inverse proportion."""
    warm, cool = (build("adashare", CLASSES, {"cooling": c, "temperature": 2.0}) for c in (1, 0.5))
    first, second = (at(m, 4, 8)["a"].detach().logit() for m in (warm, cool))
    assert_close(second, first * 4, rtol=1e-3, atol=1e-4)


def test_phases_share_the_epochs():
    method = build("adashare", CLASSES)
    plan = method.plan(Schedule(epochs=30))
    assert [(p.name, p.epochs) for p in plan] == [("warm_up", 3), ("search", 12), ("retrain", 15)]
    assert [p.epochs for p in method.plan(Schedule(epochs=3))] == [2, 1]
    with pytest.raises(UserError, match="got 2") as error:
        method.plan(Schedule(epochs=2))
    assert error.value.faults[0].where == "train.epochs"


def test_weights_and_policies_take_turns_on_two_parts():
    (_, search, _) = build("adashare", CLASSES, {"split": 0.7}).plan(Schedule(epochs=30))
    rule = search.update["alternating"]
    assert rule["parts"] == [(0.0, 0.7), (0.7, 1.0)]
    assert search.joint_pace


# Fixed policies.


def test_running_every_block_is_hard_sharing_bit_for_bit():
    every = dict.fromkeys(CLASSES, [1] * BLOCKS)
    method, hard = decided(every), train(build("hard", CLASSES))
    ours, theirs = (predictions(m, a_batch(m, seed=9)) for m in (method, hard))
    assert all(torch.equal(ours[task], theirs[task]) for task in CLASSES)


def test_warm_up_is_hard_sharing_bit_for_bit():
    method, hard = train(build("adashare", CLASSES)), train(build("hard", CLASSES))
    ours, theirs = (predictions(m, a_batch(m, seed=9)) for m in (method, hard))
    assert all(torch.equal(ours[task], theirs[task]) for task in CLASSES)


CHOICES = {"a": [1, 0, 1, 1, 0, 1, 1, 1], "b": [1, 0, 0, 1, 1, 0, 1, 0]}


def test_a_path_holds_no_skipped_block():
    """Identity blocks are gone; of layer2.0 and layer3.0 the projection is left."""
    method = decided(CHOICES)
    cost, hard = measure(method), measure(build("hard", CLASSES))
    params = {u.unit: u.params for u in hard.tasks["a"].units}
    left = {"layer2.0": 4 * 8 + 2 * 8, "layer3.0": 8 * 16 + 2 * 16}
    skipped = {"a": ["layer1.1", "layer3.0"], "b": ["layer1.1", "layer2.0", "layer3.1", "layer4.1"]}
    for task, names in skipped.items():
        saved = sum(params[name] - left.get(name, 0) for name in names)
        assert cost.tasks[task].params == hard.tasks[task].params - saved
        assert cost.tasks[task].macs < hard.tasks[task].macs
        gone = set(names) - set(left) - {"layer4.1"}  # its map is read: an empty place stays
        assert params.keys() - dict(method.units_of(task)).keys() == gone
        assert not gone & method.path(task).parts().keys()


def test_paths_and_joint_predictions_agree():
    method = decided(CHOICES)
    batch = a_batch(method, seed=3)
    together = predictions(method, batch)
    with torch.no_grad():
        for task in CLASSES:
            alone = method.path(task)(batch.groups[0].images)
            assert_close(together[task], alone, rtol=1e-5, atol=1e-5)


def test_skipped_blocks_get_no_gradient_and_are_in_no_view():
    method = decided(CHOICES)
    found = gradients(method, total_loss(method, a_batch(method)))
    assert not [name for name in found if "layer1_1" in name or name.startswith("policies")]
    names = {n for n, p in method.named_parameters() if p in method.view("b")}
    assert not [n for n in names if "layer3_1" in n or "layer2_0.conv" in n]
    assert any("layer2_0.downsample" in n for n in names)


def test_tasks_run_a_unit_once_while_their_choices_agree():
    method = decided(CHOICES)
    runs = []
    for name in ("stem", "layer1.0", "layer2.1"):
        unit = method.backbone.unit(name)
        unit.register_forward_hook(lambda m, args, out, name=name: runs.append(name))
    predictions(method, a_batch(method))
    assert runs == ["stem", "layer1.0", "layer2.1", "layer2.1"]


def test_choices_are_drawn_once_from_the_seed():
    one, two, other = (searching() for _ in range(3))
    one.decide(0)
    two.decide(0)
    other.decide(1)
    assert one._decided == two._decided != other._decided
    rates = []
    method = searching()
    for policy in method.policies.values():
        policy.data[:, 0] = 0.5 + math.log(3)
    for seed in range(50):
        method._decided = None
        method.decide(seed)
        rates.append(sum(map(sum, method._decided.values())) / 16)
    assert_close(sum(rates) / len(rates), 0.75, atol=0.06, rtol=0)


def test_the_likeliest_choice():
    method = searching(choice="likeliest")
    method.policies["a"].data[:, 0] = torch.tensor([1.0, 0.0] * 4)
    method.decide(0)
    assert method._decided["a"] == [True, False] * 4
    assert method._decided["b"] == [True] * 8


def test_policies_are_told():
    told = decided(CHOICES).explained()["adashare"]
    assert told["blocks"][:2] == ["layer1.0", "layer1.1"]
    for task, runs in CHOICES.items():
        assert told["tasks"][task]["runs"] == [bool(run) for run in runs]
        assert told["tasks"][task]["probability"] == pytest.approx(runs)


def test_blocks_that_never_opened_run():
    method = build("adashare", CLASSES, {"open_every": 100})
    at(method, 3, 4)
    for policy in method.policies.values():
        policy.data = torch.tensor([[-50.0, 50.0]] * BLOCKS)
    method.decide(0)
    assert method._decided["a"] == [True] * 7 + [False]


def test_a_loaded_method_knows_its_choices():
    method = decided(CHOICES)
    other = build("adashare", CLASSES, seed=1)
    other.load_state_dict(method.state_dict())
    batch = a_batch(method)
    ours, theirs = predictions(method, batch), predictions(other, batch)
    assert all(torch.equal(ours[task], theirs[task]) for task in CLASSES)
    assert list(other.path("a").parts()) == list(method.path("a").parts())


# Batch norm.


def test_tasks_that_part_start_from_the_statistics_they_had_together():
    method = build("adashare", CLASSES)
    run_phase(method, Phase("warm_up", 1, trainable=(r"^(?!policies)",)))
    norm = method.backbone.unit("layer4.1").bn1
    assert isinstance(norm, BatchNorm)
    assert norm.bank("a").mean.any()
    assert not norm.bank("b").mean.any()
    before = predictions(method, a_batch(method))
    at(method, 0, 2)
    assert method.norm_key("b", "all", "layer4.1") == "b"
    assert torch.equal(norm.bank("a").mean, norm.bank("b").mean)
    after = predictions(method, a_batch(method))
    assert all(torch.equal(before[task], after[task]) for task in CLASSES)


def test_restart_goes_back_to_the_initial_weights_but_keeps_the_choices():
    method = decided(CHOICES, restart=True)
    fresh = build("adashare", CLASSES).state_dict()
    method.on_phase_start(SimpleNamespace(phase=Phase("retrain")))
    state = method.state_dict()
    assert all(
        torch.equal(state[n], fresh[n]) for n in fresh if n.startswith(("backbone", "heads"))
    )
    assert state["decisions"].tolist() == list(CHOICES.values())


# Backbones.


def test_mobilenet_skips_the_blocks_that_have_a_sum():
    method = build("adashare", CLASSES, backbone=MOBILENET)
    sums = [n for n, unit in method.backbone if getattr(unit, "use_res_connect", False)]
    assert list(method.blocks) == sums
    assert len(sums) == 10


@pytest.mark.parametrize("name", ["vgg11", "convnext_atto"])
def test_backbones_without_shortcuts_to_skip_are_told(name):
    with pytest.raises(UserError, match="no unit of this backbone has a shortcut"):
        build("adashare", CLASSES, backbone={"name": name, "width": 0.1})

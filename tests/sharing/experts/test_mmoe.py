"""Experts and gates: the worked mixture, and one expert is hard sharing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from polytask import backbones, registry
from polytask.batch import Batch, Input, Target
from polytask.cost import measure
from polytask.sharing.experts import mixture
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

CLASSES = {"a": 2, "b": 3}


def build(name, backbone="resnet18", stem="small", **options):
    kind = registry.load("tasks", "classification", Task)
    tasks = {n: kind(n, kind.Options(kind="classification", classes=c)) for n, c in CLASSES.items()}
    small = partial(backbones.build, backbone, width=0.0625, stem=stem)
    setting = Setting(tasks, {"all": Input(3, 16, 16)}, dict.fromkeys(tasks, "all"), small)
    method = registry.load("sharing", name, SharingMethod)
    return method(setting, method.Options(**options))


def a_batch(tasks=CLASSES, rows=None, seed=0):
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return Batch.single(images, "all", {task: Target(rows=rows) for task in tasks})


def test_worked_mixture():
    experts = [torch.tensor([pair]) for pair in ((1.0, 2.0), (3.0, 0.0), (-1.0, 1.0))]
    gate = torch.tensor([[0.2, -0.1, 0.5]]).softmax(1)
    assert_close(gate, torch.tensor([[0.323554, 0.239694, 0.436752]]), atol=1e-6, rtol=0)
    found = mixture(gate, experts)
    assert_close(found, torch.tensor([[0.605885, 1.083859]]), atol=1e-6, rtol=0)


def test_one_expert_is_hard_sharing_bit_for_bit():
    mmoe, hard = build("mmoe", experts=1), build("hard")
    batch = a_batch()
    for method in (mmoe, hard):
        optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9)
        for seed in range(3):
            optimizer.zero_grad()
            predictions = method(a_batch(seed=seed)).predictions
            sum(p.square().mean() for p in predictions.values()).backward()
            optimizer.step()
        method.eval()
    with torch.no_grad():
        ours, theirs = mmoe(batch).predictions, hard(batch).predictions
    assert all(torch.equal(ours[task], theirs[task]) for task in CLASSES)


@pytest.mark.parametrize("reads", ["stem", "input"])
def test_predictions_are_the_formula(reads):
    """Each expert run on its own, gates and heads from their tensors."""
    method = build("mmoe", gate=reads).eval()
    images = a_batch().groups[0].images
    w = method.state_dict()
    with torch.no_grad():
        found = method(a_batch()).predictions
        experts = [method.expert(f"expert{e}") for e in range(3)]
        stems = [expert(images, "stem").mean((2, 3)) for expert in experts]
        seen = torch.cat(stems, 1) if reads == "stem" else images.flatten(1)
        features = [expert(images).mean((2, 3)) for expert in experts]
        for task in CLASSES:
            logits = seen @ w[f"gates.{task}.linear.weight"].T + w[f"gates.{task}.linear.bias"]
            gate = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
            mixed = sum(gate[:, e : e + 1] * features[e] for e in range(3))
            wanted = mixed @ w[f"heads.{task}.2.weight"].T + w[f"heads.{task}.2.bias"]
            assert_close(found[task], wanted, rtol=1e-4, atol=1e-5)


def test_experts_start_apart_the_first_from_the_common_weights():
    method, hard = build("mmoe"), build("hard")
    first = [method.expert(f"expert{e}").unit("stem").conv1.weight for e in range(3)]
    assert torch.equal(first[0], hard.backbone.unit("stem").conv1.weight)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_a_task_trains_all_experts_and_its_own_gate():
    method = build("mmoe")
    method(a_batch(["a"])).predictions["a"].square().sum().backward()
    touched = {name for name, p in method.named_parameters() if p.grad is not None}
    assert {
        n for n, _ in method.named_parameters() if not n.startswith(("gates.b", "heads.b"))
    } == touched


def test_images_that_no_task_wants_run_through_no_expert():
    method = build("mmoe").eval()
    seen = []
    method.expert("expert1").unit("stem").register_forward_hook(
        lambda m, args, out: seen.append(len(out))
    )
    rows = torch.tensor([1, 4])
    with torch.no_grad():
        some = method(a_batch(["a"], rows)).predictions["a"]
        everything = method(a_batch(["a"])).predictions["a"]
    assert seen == [2, 6]
    assert_close(some, everything[rows], rtol=1e-5, atol=1e-6)


def test_the_cost_is_that_of_all_experts():
    mmoe, hard = measure(build("mmoe", experts=4)), measure(build("hard"))
    trunk = sum(unit.macs for unit in hard.tasks["a"].units)
    head = hard.tasks["a"].macs - trunk
    assert mmoe.tasks["a"].macs == 4 * trunk + head + 4 * 4 * 4

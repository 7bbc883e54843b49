"""Nested paths of a published size, and distillation from each task's own network."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from networks import QUARTER, a_batch, build, gradients, only, predictions, setting_of, total_loss
from networks import train as trained
from pydantic import ValidationError
from torch.testing import assert_close

from polytask import registry
from polytask.cost import measure
from polytask.errors import UserError
from polytask.phase import Schedule
from polytask.sharing.trunk.multi_path import MultiPath
from polytask.tasks.task import Task
from polytask.training.losses import StepLosses
from polytask.training.world import World

FIVE = {f"split{i}": 20 for i in range(5)}
THREE = {"super": 3, "coarse": 20, "fine": 100}
PLACES = ["layer3.1", "layer4.0.conv1", "layer4.0", "layer4.1.conv1", "layer4.1"]
NONE = {"distill": False}


def paths(classes, **options):
    return build("multi_path", classes, {**NONE, **options}, backbone=QUARTER, size=32)


# The network and branch table of the paper (quarter-width ResNet-18 on 32×32 images).


@pytest.fixture(scope="module")
def five():
    return paths(FIVE, branches=PLACES)


def test_the_papers_branch_table(five):
    cost = measure(five)
    whole = cost.tasks["split4"].params
    assert whole == 702_756
    own_head = [128 * 20 + 20] * 5
    trunk = [t.params - head for t, head in zip(cost.tasks.values(), own_head, strict=True)]
    assert trunk[1:] == [248_592, 404_752, 552_464, 700_176]
    ratios = [round(100 * task.params / whole) for task in cost.tasks.values()]
    assert ratios == [25, 36, 58, 79, 100]
    macs = [round(task.macs / 1e6, 2) for task in cost.tasks.values()]
    assert macs == [26.66, 27.84, 30.33, 32.69, 35.05]
    # One image through everything: the longest path and the other tasks' heads.
    assert cost.total.macs == 35_047_936 + 3 * 128 * 20 + 64 * 20
    assert cost.total.params == 702_756 + 3 * 129 * 20 + 65 * 20


@pytest.mark.parametrize("branches", [[0.25, 0.36, 0.58, 0.79, 1], None])
def test_ratios_place_the_papers_branches(five, branches):
    """Also the default, equal steps: the nearest units are the same."""
    assert paths(FIVE, branches=branches).branches == five.branches


def test_three_tasks_at_30_75_and_100_percent():
    placed = paths(THREE, branches=[0.3, 0.75, 1]).branches
    assert list(placed.values()) == ["layer3.1", "layer4.1.conv1", "layer4.1.conv2"]


def test_mobilenet_leaves_at_34_59_and_100_percent():
    half = {"name": "mobilenet_v2", "width": 0.5, "stem": "small"}
    ends = ["features.15", "features.17", "features.18"]
    method = build("multi_path", THREE, {**NONE, "branches": ends}, backbone=half, size=32)
    params = [task.params for task in measure(method).tasks.values()]
    assert params == [275_360 + 243, 480_320 + 3_220, 815_780]
    assert [round(p / 815_780, 3) for p in params] == [0.338, 0.593, 1.0]


def test_paths_are_nested_and_the_last_is_the_whole_trunk(five):
    views = [five.view(t) - set(five.heads.parameters()) for t in FIVE]
    assert all(one < other for one, other in pairwise(views))
    assert views[-1] == set(five.backbone.parameters())


def test_the_order_of_tasks_changes_no_paths_parameters(five):
    turned = paths(dict(reversed(FIVE.items())), branches=PLACES)
    sizes = [[t.params for t in measure(m).tasks.values()] for m in (five, turned)]
    assert sizes[0] == sizes[1]


def test_an_early_tasks_gradient_stops_at_its_branch():
    ends = {"a": "layer4.0.conv1", "b": "layer4"}
    method = build("multi_path", {"a": 2, "b": 3}, {**NONE, "branches": ends})
    touched = gradients(method, total_loss(method, only(a_batch(method), "a")))
    assert "backbone.units.layer4_0_conv1.conv.weight" in touched
    assert not [name for name in touched if "layer4_0_conv2" in name or "layer4_1" in name]


def test_all_branches_at_the_end_are_hard_sharing_bit_for_bit():
    classes = {"a": 2, "b": 3, "c": 4}
    method = trained(build("multi_path", classes, {**NONE, "branches": ["layer4"] * 3}))
    hard = trained(build("hard", classes))
    ours, theirs = (predictions(m, a_batch(m, seed=9)) for m in (method, hard))
    assert all(torch.equal(ours[task], theirs[task]) for task in classes)


# Wrong branches.


@pytest.mark.parametrize(
    ("branches", "where", "text"),
    [
        (["layer4"], "branches", "1 entries.*2 tasks"),
        ({"a": "layer4"}, "branches", "no branch for b"),
        ({"a": "layer4", "c": "layer4"}, "branches.c", '"c"'),
        (["layr4", "layer4"], "branches.a", '"layr4"'),
    ],
)
def test_wrong_branches_are_told(branches, where, text):
    with pytest.raises(UserError, match=text) as error:
        build("multi_path", {"a": 2, "b": 2}, {**NONE, "branches": branches})
    assert error.value.faults[0].where == where


@pytest.mark.parametrize(
    "wrong",
    [{"branches": [0.5, 1.5]}, {"branches": [0, 1]}, {"distill": {"mix": "convex", "alpha": 1.5}}],
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValidationError):
        MultiPath.Options(**wrong)


# Distillation.


def losses(method, batch, teachers):
    """What the loop would sum up, with the phase's terms."""
    (phase,) = method.plan(Schedule(epochs=1, single_paths=lambda: teachers))
    outputs = method(batch)
    terms = [term for make in phase.terms for term in make(batch, outputs)]
    found = StepLosses(method.tasks, batch, outputs, terms, World.of(accelerator="cpu"))
    return torch.stack(list(found.losses.values())).sum()


def with_teachers(**distill):
    classes = {"a": 2, "b": 3}
    method = build("multi_path", classes, {"distill": distill})
    teachers = build("single", classes, init="independent", seed=5)
    return method, {task: teachers.path(task) for task in classes}


@pytest.mark.parametrize("off", [{"mix": "convex", "alpha": 1.0}, {"alpha": 0.0}])
def test_distillation_that_weighs_nothing_gives_the_plain_gradients(off):
    method, teachers = with_teachers(**off)
    batch = a_batch(method)
    with_term = gradients(method, losses(method, batch, teachers))
    plain = gradients(method, total_loss(method, batch))
    assert with_term.keys() == plain.keys()
    assert all(torch.equal(with_term[name], plain[name]) for name in plain)


@pytest.mark.parametrize("mix", ["additive", "convex"])
def test_the_loss_is_the_papers_formula(mix):
    """Naive CE and KL of every image, mixed by hand."""
    method, teachers = with_teachers(mix=mix, alpha=0.7, temperature=3.0)
    batch = a_batch(method)
    (group,) = batch.groups
    wanted = 0.0
    for task, prediction in method.eval()(batch).predictions.items():
        teacher = teachers[task](group.images)
        for s, t, label in zip(prediction, teacher, group.targets[task].value, strict=True):
            ce = -torch.log_softmax(s, -1)[label]
            p, q = torch.softmax(t / 3, -1), torch.softmax(s / 3, -1)
            kd = sum(p[k] * (p[k].log() - q[k].log()) for k in range(len(p)))
            mixed = ce + 0.7 * kd if mix == "additive" else 0.7 * ce + 0.3 * kd
            wanted = wanted + mixed / len(prediction)
    assert_close(losses(method, batch, teachers), wanted)


def test_teachers_get_no_gradient_and_keep_their_statistics():
    method, teachers = with_teachers()
    before = {t: {k: v.clone() for k, v in p.state_dict().items()} for t, p in teachers.items()}
    method.train()
    losses(method, a_batch(method), teachers).backward()
    for task, teacher in teachers.items():
        assert all(p.grad is None for p in teacher.parameters())
        assert all(torch.equal(v, before[task][k]) for k, v in teacher.state_dict().items())


def test_a_path_holds_no_teacher():
    method, teachers = with_teachers()
    method.plan(Schedule(epochs=1, single_paths=lambda: teachers))
    plain = build("multi_path", {"a": 2, "b": 3}, NONE)
    assert method.state_dict().keys() == plain.state_dict().keys()


def test_tasks_without_class_probabilities_are_refused():
    class Depth(registry.load("tasks", "classification", Task)):
        kind = "depth"

    setting = setting_of({"a": 2})
    setting.tasks["far"] = Depth("far", Depth.Options(kind="depth", classes=2))
    assert "far" in MultiPath.refuses(setting, MultiPath.Options())
    assert MultiPath.refuses(setting, MultiPath.Options(distill=False)) is None

"""Exits: where tasks leave, what each may touch, and the rule of class counts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask import backbones, registry
from polytask.batch import Batch, Input, Target
from polytask.errors import UserError
from polytask.sharing.method import Setting
from polytask.sharing.trunk.multi_exit import MultiExit, MultiExitOptions, place_by_class_count
from polytask.tasks.task import Task

STAGES = {f"layer{i}": f"layer{i}.1" for i in (1, 2, 3, 4)}
SIZE = Input(3, 16, 16)


def build(classes: dict[str, int], **options) -> MultiExit:
    kind = registry.load("tasks", "classification", Task)
    tasks = {
        name: kind(name, kind.Options(kind="classification", classes=count))
        for name, count in classes.items()
    }
    small = partial(backbones.build, "resnet18", width=0.0625, stem="small")
    setting = Setting(tasks, {"all": SIZE}, dict.fromkeys(tasks, "all"), small)
    return MultiExit(setting, MultiExitOptions(**options))


def a_batch(*tasks: str, count: int = 4, rows: dict[str, list[int]] | None = None) -> Batch:
    images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    chosen = {task: (rows or {}).get(task) for task in tasks}
    targets = {t: Target(rows=None if r is None else torch.tensor(r)) for t, r in chosen.items()}
    return Batch.single(images, "all", targets)


def ran(method: MultiExit, batch: Batch) -> dict[str, int]:
    """How many images each unit of the trunk saw."""
    seen: dict[str, int] = {}
    hooks = [
        unit.register_forward_pre_hook(
            lambda _, args, name=name: seen.update({name: seen.get(name, 0) + len(args[0])})
        )
        for name, unit in method.backbone
    ]
    with torch.no_grad():
        method(batch)
    for hook in hooks:
        hook.remove()
    return seen


# Invariant 9 of the method's page.


def test_fewer_classes_leave_earlier():
    assert place_by_class_count({"imagenet": 1000, "places": 365}, STAGES) == {
        "places": "layer3.1",
        "imagenet": "layer4.1",
    }


def test_ties_keep_the_order_of_tasks():
    placed = place_by_class_count({"b": 10, "a": 10, "c": 2}, STAGES)
    assert placed == {"c": "layer2.1", "b": "layer3.1", "a": "layer4.1"}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_depth_follows_class_counts(counts):
    placed = place_by_class_count({str(i): n for i, n in enumerate(counts)}, STAGES)
    depth = [list(STAGES.values()).index(placed[str(i)]) for i in range(len(counts))]
    assert sorted(depth) == list(range(4 - len(counts), 4))
    for i, one in enumerate(counts):
        for j, other in enumerate(counts):
            assert (depth[i] < depth[j]) == ((one, i) < (other, j))


def test_more_tasks_than_stages_need_named_exits():
    with pytest.raises(UserError, match=r"5 tasks.*layer1") as error:
        build({str(i): 2 for i in range(5)})
    assert error.value.faults[0].where == "exits"
    assert "share" in error.value.faults[0].hint
    shared = build({str(i): 2 for i in range(5)}, exits=dict.fromkeys("01234", "layer2"))
    assert set(shared.exits.values()) == {"layer2.1"}


def test_by_class_count_is_the_default():
    assert build({"a": 10, "b": 2}).exits == {"b": "layer3.1", "a": "layer4.1"}


# Wrong exits.


def test_a_head_of_two_maps_does_not_leave_in_the_first_stage():
    setting = build({"find": 2, "a": 3, "b": 4, "c": 5}).setting
    kind = registry.load("tasks", "detection", Task)
    setting.tasks["find"] = kind("find", kind.Options(kind="detection", classes=2))
    placed = MultiExit(setting, MultiExitOptions()).exits
    assert placed == {"find": "layer2.1", "a": "layer2.1", "b": "layer3.1", "c": "layer4.1"}
    with pytest.raises(UserError, match=r"find \(detection\) reads the maps of 2 stages"):
        MultiExit(setting, MultiExitOptions(exits={"find": "layer1"}))
    space = MultiExit.search_space(setting, MultiExitOptions())
    assert space["exits.find"] == ["layer2", "layer3", "layer4"]
    assert space["exits.a"] == list(STAGES)


def test_an_exit_that_does_not_exist():
    with pytest.raises(UserError, match='"layr3"') as error:
        build({"a": 2, "b": 2}, exits={"a": "layr3", "b": "layer4"})
    assert error.value.faults[0].where == "exits.a"
    assert '"layer3"' in error.value.faults[0].hint


def test_an_exit_of_a_task_that_does_not_exist():
    with pytest.raises(UserError, match="expected one of animal, colour") as error:
        build({"animal": 2, "colour": 2}, exits={"anmal": "layer3", "colour": "layer4"})
    assert '"animal"' in error.value.faults[0].hint


def test_tasks_without_an_exit_leave_at_the_end():
    method = build({"a": 2, "b": 2}, exits={"a": "layer3"})
    assert method.exits == {"a": "layer3.1", "b": "layer4.1"}


def test_an_exit_in_the_middle_of_a_stage():
    method = build({"a": 2, "b": 2}, exits={"a": "layer2.0", "b": "layer4"})
    assert ran(method, a_batch("a")).keys() == {"stem", "layer1.0", "layer1.1", "layer2.0"}


# Invariants 1, 5, 6 and 11.


@pytest.mark.parametrize("heads", ["minimal", "big"])
def test_gradients_stay_before_the_exit(heads):
    exits = {"shallow": "layer2", "deep": "layer4"}
    method = build({"shallow": 2, "deep": 3}, exits=exits, filter=True, heads=heads)
    batch = a_batch("shallow", "deep")
    method(batch).predictions["shallow"].square().sum().backward()
    touched = {name for name, p in method.named_parameters() if p.grad is not None}
    assert any(name.startswith("backbone.units.layer2_1.") for name in touched)
    assert not any("backbone.units.layer3" in n or "backbone.units.layer4" in n for n in touched)
    method.zero_grad(set_to_none=True)
    method(batch).predictions["deep"].square().sum().backward()
    touched = {name for name, p in method.named_parameters() if p.grad is not None}
    assert any(name.startswith("backbone.units.layer4_1.") for name in touched)
    assert not any("shallow" in name for name in touched)


def test_a_filter_changes_its_own_task_alone():
    method = build({"a": 2, "b": 3}, exits={"a": "layer4", "b": "layer4"}, filter=True).eval()
    batch = a_batch("a", "b")
    with torch.no_grad():
        before = method(batch).predictions
        for parameter in method.filters["a"].parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
        after = method(batch).predictions
    assert not torch.equal(before["a"], after["a"])
    assert torch.equal(before["b"], after["b"])


def test_an_early_path_runs_no_later_unit():
    method = build({"a": 2, "b": 3}, exits={"a": "layer1", "b": "layer3"}).eval()
    assert ran(method, a_batch("a")).keys() == {"stem", "layer1.0", "layer1.1"}
    assert "layer4.0" not in ran(method, a_batch("a", "b"))
    assert list(method.path("a").parts()) == ["stem", "layer1.0", "layer1.1", "tail", "head"]


def test_units_run_only_on_the_images_of_tasks_still_on_their_way():
    """Images 0, 1 want `a` (out after layer1), 1, 2, 3 want `b` (layer4); 4 wants nothing."""
    rows = {"a": [0, 1], "b": [1, 2, 3]}
    exits = {"a": "layer1", "b": "layer4"}
    method = build({"a": 2, "b": 3}, exits=exits).eval()
    seen = ran(method, a_batch("a", "b", count=5, rows=rows))
    assert {seen[name] for name in ("stem", "layer1.0", "layer1.1")} == {4}
    assert {seen[name] for name in ("layer2.0", "layer3.1", "layer4.1")} == {3}
    kept = build({"a": 2, "b": 3}, exits=exits, drop_rows=False).eval()
    assert set(ran(kept, a_batch("a", "b", count=5, rows=rows)).values()) == {5}


def test_tasks_with_one_exit_run_the_trunk_once():
    method = build({"a": 2, "b": 3}, exits={"a": "layer4", "b": "layer4"}).eval()
    assert set(ran(method, a_batch("a", "b")).values()) == {4}


def test_big_heads_start_as_copies_of_their_own_and_share_the_rest():
    exits = {"a": "layer3", "b": "layer4"}
    method = build({"a": 2, "b": 3}, exits=exits, heads="big")
    shared = {name for name, p in method.named_parameters() if p in method.shared()}
    assert any("layer3_1" in name for name in shared)
    assert not any("layer4" in name for name in shared)
    assert set(method.own["a"]) == {"layer4_0", "layer4_1"}
    assert not len(method.own["b"])
    assert [o for _, o in method.units_of("a")][-3:] == ["shared", "a", "a"]

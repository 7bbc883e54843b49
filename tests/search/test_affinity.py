"""Affinity of tasks: the equations on a small network, and no trace of measuring."""

from __future__ import annotations

import pytest
import torch

from polytask.batch import Batch
from polytask.config import read_config
from polytask.errors import UserError
from polytask.search.affinity import Affinity, Probe, Sums, measure_affinity
from polytask.training.loop import Loop
from polytask.training.run import Run


def scenes(tasks=("shape", "looks"), **top):
    known = {
        "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
        "looks": {"kind": "multilabel", "data": "scenes", "label": ["filled", "large"]},
        "again": {"kind": "classification", "data": "scenes", "label": "shape"},
        "groups": {"kind": "clustering", "data": "scenes", "label": "shape"},
    }
    return read_config(
        {
            "data": {"scenes": {"source": "shapes", "count": 60, "size": 24}},
            "tasks": {name: known[name] for name in tasks},
            "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
            "methods": ["single", "hard"],
            "train": {"epochs": 2, "batch": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
            **top,
        }
    )


@pytest.fixture
def loop(tmp_path):
    """The first phase of hard sharing, not yet begun, and its first batch."""

    config = scenes()
    run = Run.alone(config, config.method("hard"), 0)
    (phase,) = run.plan(run.untrained_single_paths)
    made = Loop(config, run.method, run.data, run.world, phase, 0, lambda _: None)
    return made, next(iter(made.rule.batches(made, 0)))


def losses(method, batch: Batch):
    """Mean loss of each task, in training mode."""
    found = {}
    predictions = method(batch).predictions
    for task, _, target in batch:
        loss, weight = method.tasks[task].loss(predictions[task], target.value)
        found[task] = loss.sum() / weight.sum()
    return found


def test_follows_the_equation(loop):
    """1 − after / before, one step of the learning rate along a task's own gradient."""
    made, batch = loop
    method = made.method.train()
    tasks = list(method.tasks)
    probe = Probe(tasks, 1)
    probe.measure(made, batch)
    means, _ = probe.effects.mean_and_margin()
    cosines, _ = probe.cosines.mean_and_margin()
    start = {name: value.clone() for name, value in method.state_dict().items()}
    shared = list(method.backbone.parameters())
    rate = 0.05 * made.lr.at(0)
    gradients = {}
    for i, one in enumerate(tasks):
        before = losses(method, batch)
        gradients[one] = torch.autograd.grad(before[one], shared)
        with torch.no_grad():
            for parameter, slope in zip(shared, gradients[one], strict=True):
                parameter -= rate * slope
        after = losses(method, batch)
        for j, other in enumerate(tasks):
            wanted = 1 - float(after[other].detach()) / float(before[other].detach())
            assert means[i][j] == pytest.approx(wanted, abs=1e-5)
        method.load_state_dict(start)
    flat = [torch.cat([g.flatten() for g in gradients[t]]) for t in tasks]
    wanted = float(torch.nn.functional.cosine_similarity(*flat, dim=0))
    assert cosines[0][1] == cosines[1][0] == pytest.approx(wanted, abs=1e-5)
    assert means[0][0] > 0  # a task's own step lowers its loss
    assert cosines[0][0] == pytest.approx(1)


def test_measuring_leaves_no_trace(loop):
    made, batch = loop
    before = {name: value.clone() for name, value in made.method.state_dict().items()}
    Probe(list(made.method.tasks), 1).measure(made, batch)
    after = made.method.state_dict()
    assert not [name for name in before if not torch.equal(before[name], after[name])]
    assert all(p.grad is None for p in made.method.parameters())


def test_options_of_the_configs_own_entry_do_not_count():
    """By a temporal ensemble, copies would take the steps that are measured."""
    plain = measure_affinity(scenes(), every=4)
    own = {"hard": {"update": "temporal_ensemble"}}
    assert measure_affinity(scenes(methods=["single", own]), every=4) == plain
    assert plain.look_ahead[0][0] != 0


def test_a_task_with_phases_of_its_own_is_told():
    with pytest.raises(UserError, match=r"tasks\.groups.*clustering.*tasks\.groups=null"):
        measure_affinity(scenes(("shape", "groups")))


def test_tasks_of_the_same_labels_help_each_other():
    """Heads that start apart agree after some epochs; the third task is of another mind."""
    train = {"epochs": 16, "batch": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    seen = []
    config = scenes(("shape", "looks", "again"), train=train)
    found = measure_affinity(config, networks=2, every=5, on_epoch=seen.append)
    shape, looks, again = range(3)
    assert found.tasks == ["shape", "looks", "again"]
    assert found.cosine[shape][again] > 0.2
    assert max(found.cosine[looks][shape], found.cosine[looks][again]) < 0.1
    assert min(found.look_ahead[shape][again], found.look_ahead[again][shape]) > 0
    assert found.groups == [["shape", "again"], ["looks"]]
    assert found.steps == 10  # of 48
    assert seen == list(range(1, 17))


def test_margins_are_standard_errors():
    sums = Sums(1)
    values = [1.0, 2.0, 4.0]
    for value in values:
        sums.add(0, 0, value)
    ((mean,),), ((margin,),) = sums.mean_and_margin()
    assert mean == pytest.approx(7 / 3)
    assert margin == pytest.approx(1.96 * torch.tensor(values).std().item() / 3**0.5, rel=1e-5)


def test_a_single_task_has_nobody_to_help():
    with pytest.raises(UserError, match="got one task"):
        measure_affinity(scenes(("shape",)))


def test_what_can_be_told_from_chance():
    """Effects on others that exceed their margin; one measurement has none and tells nothing."""
    effects, margins = [[0.9, -0.2, 0.1], [0.0, 0.9, 0.3], [0.1, 0.1, 0.9]], [[0.1] * 3] * 3
    found = Affinity(["a", "b", "c"], effects, margins, effects, 40, [["a", "b", "c"]], 0.0)
    assert found.clear == [("a", "b"), ("b", "c")]
    assert "measured on 40 steps; 2 of 6" in found.certainty
    once = Affinity(["a", "b", "c"], effects, [[0.0] * 3] * 3, effects, 1, [["a", "b", "c"]], 0.0)
    assert once.clear == []


@pytest.mark.parametrize(("every", "measured"), [(None, 6), (2, 3)])
def test_a_short_run_is_measured_at_every_step(every, measured):
    """Sixty images less those held out, in batches of 16, twice: six steps."""
    assert measure_affinity(scenes(), every=every).steps == measured

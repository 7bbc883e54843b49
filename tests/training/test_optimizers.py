"""Learning rates against torch's own schedulers; parameters in the first group that matches."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from polytask.phase import ParameterGroup
from polytask.training.optimizers import LearningRate, Optimizers

SGD = {"name": "sgd", "lr": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}


def factors_of_torch(make, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs():
    rate = LearningRate({"name": "cosine"}, 0, epochs=4, steps=5)
    want = factors_of_torch(lambda o: schedulers.CosineAnnealingLR(o, 20), 20)
    assert [rate.at(s) for s in range(20)] == pytest.approx(want, abs=1e-9)


def test_steps_are_torchs():
    rate = LearningRate({"name": "step", "milestones": [1, 3], "gamma": 0.1}, 0, epochs=4, steps=5)
    want = factors_of_torch(lambda o: schedulers.MultiStepLR(o, [5, 15], gamma=0.1), 20)
    assert [rate.at(s) for s in range(20)] == pytest.approx(want, abs=1e-9)


def test_warm_up_rises_linearly_to_the_schedule():
    rate = LearningRate({"name": "constant"}, warmup=2, epochs=4, steps=5)
    assert [rate.at(s) for s in range(12)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1]
    )


@pytest.mark.parametrize("patience", [0, 2])
def test_plateau_is_torchs(patience):
    losses = [3, 2, 2.5, 2.1, 2.4, 2, 1, 1, 1, 1, 1, 0.5]
    rate = LearningRate({"name": "plateau", "patience": patience, "factor": 0.1}, 0, 12, 1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    want = schedulers.ReduceLROnPlateau(optimizer, factor=0.1, patience=patience)
    for loss in losses:
        rate.on_epoch_end(loss)
        want.step(loss)
        assert rate.at(0) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_plateau_survives_its_state():
    one = LearningRate({"name": "plateau", "patience": 1, "factor": 0.5}, 0, 9, 1)
    for loss in (2, 2, 2, 2):
        one.on_epoch_end(loss)
    other = LearningRate({"name": "plateau", "patience": 1, "factor": 0.5}, 0, 9, 1)
    other.load_state_dict(one.state_dict())
    for loss in (2, 2, 1, 1):
        one.on_epoch_end(loss)
        other.on_epoch_end(loss)
        assert one.at(0) == other.at(0) < 1
    assert math.isclose(one.best, 1)


def test_first_matching_group_decides():
    named = {name: nn.Parameter(torch.ones(1)) for name in ("links.a", "heads.b", "trunk.c")}
    groups = [
        ParameterGroup("^links", lr=100, weight_decay=0.0),
        ParameterGroup("^heads", optimizer={"name": "adam", "betas": (0.5, 0.9)}),
        ParameterGroup("links", lr=7),
    ]
    made = Optimizers(named, groups, SGD)
    kinds = [type(member).__name__ for member in made.members]
    assert kinds == ["SGD", "Adam"]
    links, trunk = made.members[0].param_groups
    assert (links["lr"], links["weight_decay"], links["nesterov"]) == (50.0, 0.0, True)
    assert (trunk["lr"], trunk["weight_decay"]) == (0.5, 0.01)
    assert made.members[1].param_groups[0]["betas"] == (0.5, 0.9)
    made.scale(0.1)
    assert links["lr"] == pytest.approx(5.0)
    assert trunk["lr"] == pytest.approx(0.05)


def test_parameters_without_a_gradient_stay_where_they_are():
    """Neither momentum nor decay moves what no present task reaches."""
    named = {"a": nn.Parameter(torch.ones(1)), "b": nn.Parameter(torch.ones(1))}
    made = Optimizers(named, (), SGD)
    for parameter in named.values():
        parameter.grad = torch.ones(1)
    made.step()
    before = named["b"].clone()
    made.zero_grad()
    named["a"].grad = torch.ones(1)
    made.step()
    assert torch.equal(named["b"], before)

"""Task weighting on methods and batch shapes: each task's own parameters get weight × gradient."""

import math

import pytest
import torch
from small_methods import (
    METHODS,
    SHAPES,
    TASKS,
    batch_of,
    gradients,
    losses_of,
    method_of,
    plain_gradients,
)

from polytask.balancing import ALONE, build
from polytask.errors import UserError

RULES = ("random", "dwa", "uncertainty", "dtp", "gradnorm")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_own_parameters_get_the_weighted_gradient_and_unreached_ones_none(rule, name, shape):
    method, batch = method_of(name, shape), batch_of(shape)
    plain = plain_gradients(method, batch)
    balancer = build(rule, method)
    for scale in (1.0, 0.5):
        balancer.on_epoch_end({t: scale ** (1 + i) for i, t in enumerate(TASKS)})
    balancer.on_step(1, method)
    outputs = method(batch)
    balancer.on_outputs(method, batch, outputs, ALONE)
    losses = losses_of(method, batch)
    values = {task: float(loss.detach()) for task, loss in losses.items()}
    weights = {t: float(torch.as_tensor(w).detach()) for t, w in balancer.weights(values).items()}
    assert set(weights) == set(batch.tasks)
    assert all(math.isfinite(w) for w in weights.values())
    balancer.backward(losses, method)
    found = gradients(method)
    for parameter, expected in plain.items():
        assert (found[parameter] is None) == (expected is None), parameter
    for task in batch.tasks:
        for key, parameter in method.heads[task].named_parameters(prefix=f"heads.{task}"):
            assert parameter.grad is None
            torch.testing.assert_close(found[key], weights[task] * plain[key])


def test_dtp_takes_its_indicator_from_the_batch():
    method, batch = method_of("hard"), batch_of("integrated")
    balancer = build({"dtp": {"discount": 0.5}}, method)
    outputs = method(batch)
    right = {
        task: float((outputs.predictions[task].argmax(1) == target.value).float().mean())
        for task, _, target in batch
    }
    balancer.on_outputs(method, batch, outputs, ALONE)
    assert balancer.kpi == pytest.approx(right)


def test_dtp_refuses_a_metric_that_falls(monkeypatch):
    method = method_of("hard")
    monkeypatch.setattr(type(method.tasks["animal"]), "higher_is_better", False)
    with pytest.raises(UserError, match=r'balancing\.dtp: the metric accuracy of task "animal"'):
        build("dtp", method)

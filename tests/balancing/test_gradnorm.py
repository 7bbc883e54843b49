"""GradNorm against the paper's formula, differentiated by autograd through the gradients' norms."""

import math

import pytest
import torch
from small_methods import batch_of, gradients, losses_of, method_of

from polytask.balancing import build
from polytask.errors import UserError


def reference(method, steps, alpha, lr):
    """Eq. 1-2 and alg. 1 as written: w as leaves, ‖∇(w L)‖ with a graph, Ḡ r^α held constant."""
    w = torch.ones(3, requires_grad=True)
    layer = [method.get_parameter("backbone.units.layer4_1.conv2.weight")]
    first = None
    for batch in steps:
        losses = torch.stack(list(losses_of(method, batch).values()))
        first = losses.detach() if first is None else first
        norms = [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(w[i] * loss, layer, create_graph=True)]
            ).norm()
            for i, loss in enumerate(losses)
        ]
        norms = torch.stack(norms)
        left = losses.detach() / first
        aim = (norms.mean() * (left / left.mean()) ** alpha).detach()
        (slope,) = torch.autograd.grad((norms - aim).abs().sum(), w)
        with torch.no_grad():
            w -= lr * slope
            w *= 3 / w.sum()
    return w.detach()


@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.0, 0.1), (0.12, 0.01)])
def test_weights_follow_the_paper(alpha, lr):
    method = method_of("hard")
    steps = [batch_of("single_input", seed) for seed in range(4)]
    expected = reference(method, steps, alpha, lr)
    balancer = build({"gradnorm": {"alpha": alpha, "lr": lr}}, method)
    for batch in steps:
        balancer.backward(losses_of(method, batch), method)
    found = torch.tensor(list(balancer.weights(dict.fromkeys(method.tasks, 1.0)).values()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - 1).abs().max() > 1e-3


def test_the_network_gets_the_weighted_gradient_of_the_weights_before_the_step():
    method = method_of("hard")
    batch = batch_of("single_input")
    balancer = build("gradnorm", method)
    balancer.weight = {"animal": 0.5, "colour": 2.0, "shape": 0.5}
    sum(w * losses_of(method, batch)[t] for t, w in balancer.weight.items()).backward()
    expected = gradients(method)
    balancer.backward(losses_of(method, batch), method)
    found = gradients(method)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_the_trunk_is_passed_once():
    """Gradients of single losses stop at the last shared unit: units before it run back once."""
    method = method_of("hard")
    calls = []
    unit = method.backbone.unit(method.backbone.names[1])
    unit.register_full_backward_hook(lambda *_: calls.append(1))
    losses = losses_of(method, batch_of("single_input"))
    build("gradnorm", method).backward(losses, method)
    assert len(calls) == 1


def test_tasks_whose_gradient_is_zero_missing_or_infinite_are_not_measured():
    balancer = build("gradnorm", method_of("hard"))
    losses = dict.fromkeys(balancer.tasks, 1.0)
    balancer.update(losses, {"animal": 0.0, "colour": math.inf, "shape": math.nan})
    assert balancer.weight == dict.fromkeys(balancer.tasks, 1.0)
    balancer.update(losses, {"animal": 0.0, "colour": 4.0, "shape": 2.0})
    w = balancer.weight
    assert w["shape"] > w["animal"] > w["colour"]
    balancer.update({"animal": 1.0}, {"animal": 3.0})
    assert sum(balancer.weight.values()) == pytest.approx(3)


def test_a_task_that_left_before_the_last_shared_layer_keeps_its_share():
    method = method_of("multi_exit")
    balancer = build({"gradnorm": {"lr": 0.1}}, method)
    losses = losses_of(method, batch_of("single_input"))
    balancer.backward(losses, method)
    assert all(math.isfinite(w) for w in balancer.weight.values())
    assert balancer.weight["colour"] != balancer.weight["shape"]


def test_a_method_without_a_last_shared_layer_is_refused_by_name(monkeypatch):
    method = method_of("hard")
    home = next(kind for kind in type(method).__mro__ if "last_shared" in vars(kind))
    monkeypatch.delattr(home, "last_shared")
    with pytest.raises(UserError, match=r"balancing\.gradnorm: Hard has no last shared layer"):
        build("gradnorm", method)

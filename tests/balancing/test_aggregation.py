"""Gradient aggregation: the theorems of the rules, on the gradients they leave in a method."""

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

from polytask import registry
from polytask.balancing import Balancer, build
from polytask.balancing.aggregation import NAMES
from polytask.balancing.jacobian import Rows
from polytask.errors import MissingExtra, UserError


def rule(name, tasks=TASKS, **options):
    kind = registry.load("balancing", name, Balancer)
    try:
        return kind(list(tasks), kind.Options(**options))
    except MissingExtra as error:
        pytest.skip(str(error))


def aggregate(balancer, jacobian, present=TASKS, key=0):
    """Of a Jacobian whose columns are two leaves."""
    balancer.key = key
    cut = jacobian.shape[1] // 2
    leaves = [torch.zeros(cut), torch.zeros(jacobian.shape[1] - cut)]
    rows = Rows(leaves)
    for task, row in zip(present, jacobian, strict=False):
        leaves[0].grad, leaves[1].grad = row[:cut].clone(), row[cut:].clone()
        rows.take(task)
    return torch.cat(balancer.aggregate(rows))


def matrix(seed, rows=3, columns=8):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


# Theorems.


@pytest.mark.parametrize("seed", range(5))
def test_two_gradients_of_pcgrad_conflict_with_neither(seed):
    """Each of two loses its part against the other: their sum goes against neither."""
    jacobian = matrix(seed, rows=2)
    jacobian[1] -= 2 * jacobian[0]
    assert jacobian[0] @ jacobian[1] < 0
    found = aggregate(rule("pcgrad"), jacobian)
    assert (jacobian @ found >= -1e-4).all()
    a, b = jacobian
    expected = a + b - (a @ b) / (b @ b) * b - (a @ b) / (a @ a) * a
    torch.testing.assert_close(found, expected)


def test_pcgrad_adds_gradients_that_do_not_conflict():
    jacobian = matrix(0).abs()
    torch.testing.assert_close(aggregate(rule("pcgrad"), jacobian), jacobian.sum(0))


@pytest.mark.parametrize("seed", range(5))
def test_mgda_keeps_the_conditions_of_the_shortest_combination(seed):
    """KKT: g·d ≥ ‖d‖² for every gradient, with equality where it has a weight."""
    jacobian = matrix(seed) + 0.5
    found = aggregate(rule("mgda", epsilon=1e-7, max_iters=20000), jacobian)
    weights = torch.linalg.lstsq(jacobian.T, found).solution
    assert weights.sum().item() == pytest.approx(1, abs=1e-4)
    assert (weights > -1e-4).all()
    slack = jacobian @ found - found @ found
    assert (slack > -1e-2).all()
    assert (weights * slack).abs().max() < 1e-2


@pytest.mark.parametrize("seed", range(3))
def test_imtl_g_projects_equally_on_every_gradient(seed):
    jacobian = matrix(seed) + 0.5
    found = aggregate(rule("imtl_g"), jacobian)
    projections = jacobian @ found / jacobian.norm(dim=1)
    torch.testing.assert_close(projections, projections[:1].expand(3), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_projections_on_the_dual_cone_hurt_no_task(name):
    for seed in range(3):
        jacobian = matrix(seed)
        assert (jacobian @ aggregate(rule(name), jacobian) > -1e-2).all()


def test_config_has_equal_cosines():
    jacobian = matrix(1)
    found = aggregate(rule("config"), jacobian)
    cosines = (jacobian @ found) / jacobian.norm(dim=1)
    torch.testing.assert_close(cosines, cosines[:1].expand(3), rtol=1e-3, atol=1e-4)


def test_graddrop_keeps_entries_of_one_sign():
    jacobian = matrix(2)
    found = aggregate(rule("graddrop"), jacobian)
    choices = torch.stack([jacobian.clamp(min=0).sum(0), jacobian.clamp(max=0).sum(0)])
    assert ((choices - found).abs().min(0).values < 1e-6).all()


# What never becomes NaN; what is random; what is remembered.

DEGENERATE = {
    "one of zeros": torch.tensor([[1.0, -2, 3], [0, 0, 0], [2, 1, 0]]),
    "all of zeros": torch.zeros(3, 3),
    "all alike": torch.ones(3, 3),
    "opposite": torch.tensor([[1.0, 2, 3], [-1, -2, -3], [1, 2, 3]]),
    "infinite": torch.tensor([[1.0, 2, 3], [torch.inf, 0, 1], [2, 1, 0]]),
    "not a number": torch.tensor([[1.0, 2, 3], [torch.nan, 0, 1], [2, 1, 0]]),
    "huge and tiny": torch.tensor([[1e15, 1, 2], [1e-15, 1e-15, 0], [1.0, -1, 0]]),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", DEGENERATE)
def test_no_gradient_makes_the_aggregate_nan(name, case):
    balancer = rule(name)
    for _ in range(2):
        assert torch.isfinite(aggregate(balancer, DEGENERATE[case])).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_infinite_gradient_counts_as_absent(name):
    jacobian = matrix(0)
    broken = torch.stack([jacobian[0], torch.full((8,), torch.inf), jacobian[1]])
    found = aggregate(rule(name), broken, ["animal", "colour", "shape"])
    expected = aggregate(rule(name), jacobian[:2], ["animal", "shape"])
    torch.testing.assert_close(found, expected)


def test_nothing_finite_stays_visible():
    assert not torch.isfinite(aggregate(rule("pcgrad"), torch.full((3, 2), torch.inf))).any()


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "graddrop"])
def test_draws_depend_on_the_step_alone(name):
    def run(key):
        return aggregate(rule(name), matrix(3, columns=40), key=key)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = run(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, run(5))
    assert any(not torch.equal(one, run(key)) for key in range(6, 12))


@pytest.mark.parametrize("name", NAMES)
def test_memory_goes_on_where_it_was_saved(name, tmp_path):
    """As in a checkpoint: plain data only, one memory for each set of present tasks."""
    straight, first, second = rule(name), rule(name), rule(name)
    steps = [(matrix(i), TASKS) for i in range(3)] + [(matrix(9, rows=2), TASKS[1:])]
    steps += [(matrix(20 + i), TASKS) for i in range(2)]
    expected = [aggregate(straight, j, t, key=i) for i, (j, t) in enumerate(steps)]
    for i, (jacobian, present) in enumerate(steps[:3]):
        aggregate(first, jacobian, present, key=i)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    again = rule(name)
    again.load_state_dict(second.state_dict())  # saved again before its first step
    for i, (jacobian, present) in enumerate(steps[3:], 3):
        assert torch.equal(aggregate(again, jacobian, present, key=i), expected[i])


# On methods.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["pcgrad", "mgda", "graddrop"])
def test_own_parameters_get_plain_gradients_and_unreached_ones_none(kind, name, shape):
    method, batch = method_of(name, shape), batch_of(shape)
    plain = plain_gradients(method, batch)
    balancer = build(kind, method)
    balancer.on_step(1, method)
    balancer.backward(losses_of(method, batch), method)
    shared = method.shared()
    for parameter_name, parameter in method.named_parameters():
        expected, found = plain[parameter_name], parameter.grad
        assert (found is None) == (expected is None), parameter_name
        if found is not None:
            assert torch.isfinite(found).all()
        if found is not None and (parameter not in shared or len(batch.tasks) == 1):
            torch.testing.assert_close(found, expected, msg=parameter_name)


@pytest.mark.parametrize("name", ["hard", "multi_exit"])
def test_shared_parameters_get_the_rule_of_the_task_gradients(name):
    method, batch = method_of(name), batch_of("integrated")
    names = [n for n, p in method.named_parameters() if p in method.shared()]
    rows = []
    for task in TASKS:
        losses_of(method, batch)[task].backward()
        found = gradients(method)
        zeros = {n: torch.zeros_like(p) for n, p in method.named_parameters()}
        rows.append(
            torch.cat([(zeros[n] if found[n] is None else found[n]).flatten() for n in names])
        )
    expected = aggregate(rule("pcgrad"), torch.stack(rows), key=7)
    balancer = build("pcgrad", method)
    balancer.on_step(7, method)
    balancer.backward(losses_of(method, batch), method)
    found = gradients(method)
    torch.testing.assert_close(torch.cat([found[n].flatten() for n in names]), expected)


@pytest.mark.parametrize("kind", ["equal", "pcgrad", "gradnorm", "dwa"])
def test_the_penalty_is_added_as_it_is(kind):
    method, batch = method_of("hard"), batch_of("single_input")

    def run(penalty):
        balancer = build(kind, method)
        balancer.on_step(1, method)
        balancer.backward(losses_of(method, batch), method, penalty)
        return gradients(method)

    without = run(None)
    name, weight = next((n, p) for n, p in method.named_parameters() if p in method.shared())
    extra = run(0.5 * weight.square().sum())
    torch.testing.assert_close(extra[name], without[name] + weight.detach())


def test_gradients_by_the_representation_are_aggregated_and_sent_on_once():
    """Where each image feeds one task, rows are orthogonal: PCGrad is then the plain sum."""
    method, batch = method_of("hard", "multi_input"), batch_of("multi_input")
    plain = plain_gradients(method, batch)
    balancer = build({"pcgrad": {"on": "representation"}}, method)
    unit = method.backbone.unit(method.backbone.names[1])
    calls = []
    unit.register_full_backward_hook(lambda *_: calls.append(1))
    balancer.on_step(1, method)
    balancer.backward(losses_of(method, batch), method)
    for name, expected in plain.items():
        torch.testing.assert_close(method.get_parameter(name).grad, expected, msg=name)
    assert len(calls) == len(batch.groups)
    assert not method.backbone.unit(method.backbone.last)._forward_hooks


def test_mgda_on_the_representation_is_the_shortest_combination_of_its_gradients():
    method, batch = method_of("hard"), batch_of("single_input")
    read = []
    handle = method.backbone.unit(method.backbone.last).register_forward_hook(
        lambda module, inputs, output: read.append(output)
    )
    losses = losses_of(method, batch)
    handle.remove()
    rows = torch.stack(
        [torch.autograd.grad(x, read[0], retain_graph=True)[0].flatten() for x in losses.values()]
    )
    wanted = aggregate(rule("mgda"), rows)
    read[0].backward(wanted.view_as(read[0]))
    expected = gradients(method)
    balancer = build({"mgda": {"on": "representation"}}, method)
    balancer.on_step(1, method)
    balancer.backward(losses_of(method, batch), method)
    for name, value in gradients(method).items():
        if expected[name] is not None:
            torch.testing.assert_close(value, expected[name], msg=name)


@pytest.mark.parametrize("on", ["parameters", "representation"])
def test_where_nothing_shared_is_trained_a_step_is_a_plain_one(on):
    method, batch = method_of("hard"), batch_of("integrated")
    for parameter in method.shared():
        parameter.requires_grad_(False)
    plain = plain_gradients(method, batch)
    balancer = build({"pcgrad": {"on": on}}, method)
    balancer.on_step(1, method)
    balancer.backward(losses_of(method, batch), method)
    for name, found in gradients(method).items():
        assert (found is None) == (plain[name] is None), name
        assert found is None or torch.equal(found, plain[name]), name
    assert any(found is not None for found in plain.values())
    assert not method.backbone.unit(method.backbone.last)._forward_hooks


def test_a_representation_that_does_not_exist_is_refused_by_name():
    with pytest.raises(UserError, match=r"balancing\.pcgrad\.on: MultiExit has no representation"):
        build({"pcgrad": {"on": "representation"}}, method_of("multi_exit"))


def test_where_nothing_is_shared_nothing_is_balanced():
    assert type(build("mgda", method_of("single"))).__name__ == "Equal"


def test_rules_without_their_solver_name_the_extra(monkeypatch):
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    kind = registry.load("balancing", "upgrad", Balancer)
    with pytest.raises(MissingExtra, match=r"balancing\.upgrad: needs: .*polytask\[balance\]"):
        kind(["a", "b"], kind.Options())

"""Task weighting: worked numbers, what weights sum to, what never becomes NaN."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask import registry
from polytask.balancing import Balancer

TASKS = ("a", "b", "c")
WEIGHTINGS = ("equal", "fixed", "random", "dwa", "uncertainty", "geometric_mean", "dtp", "gradnorm")
HARD_LOSSES = st.one_of(
    st.floats(1e-6, 1e6), st.sampled_from([0.0, 1e-30, 1e30, math.inf]), st.just(1.0)
)


def made(name, tasks=TASKS, **options):
    kind = registry.load("balancing", name, Balancer)
    return kind(list(tasks), kind.Options(**options))


def weights_of(balancer, losses):
    return {
        task: w.item() if isinstance(w, torch.Tensor) else w
        for task, w in balancer.weights(losses).items()
    }


def after_epochs(balancer, *means, tasks=TASKS):
    for mean in means:
        balancer.on_epoch_end(dict(zip(tasks, mean, strict=True)))
    return list(weights_of(balancer, dict.fromkeys(tasks, 1.0)).values())


# Dynamic weight average.

BEFORE, LAST = (0.8, 1.2, 0.5), (0.6, 1.2, 0.3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.980106, 1.110606, 0.909287)),
        ({"temperature": 1}, (0.953976, 1.224929, 0.821095)),
        ({"prior": {"a": 0.3, "b": 1, "c": 2}}, (0.273670, 1.033695, 1.692635)),
    ],
)
def test_dwa_gives_the_worked_numbers(options, expected):
    found = after_epochs(made("dwa", **options), BEFORE, LAST)
    assert found == pytest.approx(expected, abs=1e-6)


def test_dwa_of_two_tasks():
    found = after_epochs(made("dwa", "ab"), (1, 2), (0.5, 1.8), tasks="ab")
    assert found == pytest.approx((0.900332, 1.099668), abs=1e-6)


def test_dwa_weighs_alike_for_two_epochs_and_where_losses_fall_alike():
    balancer = made("dwa")
    assert after_epochs(balancer) == [1, 1, 1]
    assert after_epochs(balancer, BEFORE) == [1, 1, 1]
    assert after_epochs(balancer, LAST) != [1, 1, 1]
    assert after_epochs(made("dwa"), BEFORE, [0.5 * x for x in BEFORE]) == pytest.approx([1, 1, 1])
    assert after_epochs(made("dwa", temperature=1e9), BEFORE, LAST) == pytest.approx([1, 1, 1])


def test_dwa_does_not_see_the_scale_of_a_loss():
    scaled = [
        [factor * x for factor, x in zip((1, 100, 1e-3), m, strict=True)] for m in (BEFORE, LAST)
    ]
    assert after_epochs(made("dwa"), *scaled) == pytest.approx(
        after_epochs(made("dwa"), BEFORE, LAST)
    )


def test_dwa_by_iteration_compares_batches_and_starts_anew_each_epoch():
    balancer = made("dwa", granularity="iteration", prior={"a": 0.3, "b": 1, "c": 2})
    seen = [
        list(weights_of(balancer, dict(zip(TASKS, losses, strict=True))).values())
        for losses in (BEFORE, LAST, (9, 9, 9))
    ]
    assert seen[:2] == [[0.3, 1, 2]] * 2
    assert seen[2] == pytest.approx((0.273670, 1.033695, 1.692635), abs=1e-6)
    assert after_epochs(balancer, BEFORE) == [0.3, 1, 2]


def test_dwa_leaves_out_tasks_below_the_cutoff():
    losses = {"a": 0.1, "b": 0.3, "c": 0.05}
    assert weights_of(made("dwa", cutoff=0.2), losses) == {"b": 1.0}
    assert weights_of(made("dwa", cutoff={"a": 0.2}), losses) == {"b": 1.0, "c": 1.0}
    below = made("dwa", cutoff=0.2)
    assert below.combine({"a": torch.tensor(0.1)}, {"a": 0.1}) is None


# Uncertainty.


def test_uncertainty_starts_as_the_sum_and_settles_where_the_paper_says():
    """exp(-s) L + s/2 is least at exp(-s) = 1 / 2L."""
    balancer = made("uncertainty", "ab")
    losses = {"a": torch.tensor(0.25), "b": torch.tensor(3.0)}
    assert weights_of(balancer, losses) == {"a": 1, "b": 1}
    optimizer = torch.optim.SGD(balancer.parameters(), 0.3)
    for _ in range(200):
        optimizer.zero_grad()
        balancer.backward(losses, method=None)
        optimizer.step()
    assert weights_of(balancer, losses) == pytest.approx({"a": 2.0, "b": 1 / 6}, rel=1e-4)


def test_uncertainty_gives_absent_tasks_no_gradient():
    balancer = made("uncertainty", "ab")
    balancer.backward({"a": torch.tensor(2.0)}, method=None)
    assert balancer.log_variance["a"].grad == -1.5
    assert balancer.log_variance["b"].grad is None


def test_a_large_first_loss_does_not_shut_a_task_out_for_good():
    """A step with momentum carries s beyond its limit; from there it has to find back to log 2L."""
    balancer = made("uncertainty", "a")
    optimizer = torch.optim.SGD(balancer.parameters(), 0.05, momentum=0.9)
    for step in range(300):
        loss = max(2.0, 500 * 0.9**step)
        balancer.on_step(step, method=None)
        assert abs(math.log(weights_of(balancer, {"a": loss})["a"])) <= 10 + 1e-5
        optimizer.zero_grad()
        balancer.backward({"a": torch.tensor(loss)}, method=None)
        optimizer.step()
    assert balancer.log_variance["a"].item() == pytest.approx(math.log(4), abs=1e-2)


# Random, geometric mean, dynamic task prioritisation.


def test_random_weights_depend_on_the_step_alone():
    one, other = made("random"), made("random")
    torch.manual_seed(1)
    one.on_step(5, method=None)
    torch.manual_seed(2)
    other.on_step(5, method=None)
    losses = dict.fromkeys(TASKS, 1.0)
    first = weights_of(one, losses)
    assert first == weights_of(other, losses)
    one.on_step(6, method=None)
    assert weights_of(one, losses) != first
    drawn = torch.randn(3, generator=torch.Generator().manual_seed(5))
    assert list(first.values()) == pytest.approx((3 * drawn.softmax(0)).tolist())


def test_the_geometric_mean_is_what_its_weights_differentiate():
    losses = torch.tensor([0.5, 2.0, 9.0], requires_grad=True)
    (expected,) = torch.autograd.grad(losses.log().mean().exp(), losses)
    found = weights_of(made("geometric_mean"), dict(zip(TASKS, losses.tolist(), strict=True)))
    assert list(found.values()) == pytest.approx(expected.tolist())


def test_dtp_weighs_by_the_focal_formula_of_the_running_mean():
    balancer = made("dtp", gamma=2.0, discount=0.25)
    balancer.see("a", 0.5)
    balancer.see("b", 0.5)
    balancer.see("b", 0.9)
    balancer.see("c", 0.0)
    found = weights_of(balancer, dict.fromkeys(TASKS, 1.0))
    assert found["a"] == pytest.approx(0.25 * math.log(2))
    assert found["b"] == pytest.approx(-(0.4**2) * math.log(0.6))
    assert found["c"] == pytest.approx(-(0.99**2) * math.log(0.01))


# All of them.


@pytest.mark.parametrize("name", ["equal", "random", "dwa", "gradnorm", "uncertainty"])
@settings(max_examples=30, deadline=None)
@given(first=st.lists(st.floats(0.01, 10), min_size=3, max_size=3), scale=st.floats(0.1, 2))
def test_weights_sum_to_the_number_of_tasks(name, first, scale):
    balancer = made(name)
    losses = dict(zip(TASKS, first, strict=True))
    if name != "uncertainty":  # whose weights do so at the start only
        balancer.on_step(3, method=None)
        balancer.on_epoch_end(losses)
        balancer.on_epoch_end({t: scale * v**0.5 for t, v in losses.items()})
        if name == "gradnorm":
            balancer.update(losses, {t: scale * v for t, v in losses.items()})
    assert sum(weights_of(balancer, losses).values()) == pytest.approx(3)


@pytest.mark.parametrize("name", WEIGHTINGS)
@settings(max_examples=30, deadline=None)
@given(history=st.lists(st.lists(HARD_LOSSES, min_size=3, max_size=3), min_size=1, max_size=4))
def test_no_loss_makes_a_weight_nan_or_infinite(name, history):
    balancer = made(name)
    for step, values in enumerate(history):
        losses = dict(zip(TASKS[: 1 + step % 3], values, strict=False))
        balancer.on_step(step, method=None)
        found = weights_of(balancer, losses)
        assert all(math.isfinite(w) and w >= 0 for w in found.values()), found
        if name == "gradnorm":
            balancer.update(losses, dict(zip(losses, reversed(values), strict=False)))
        balancer.on_epoch_end(losses)

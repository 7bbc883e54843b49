"""The temporal task ensemble: the worked example, and what holds for any copies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.config.update import TemporalEnsemble
from polytask.training.ensemble import canberra, coefficients, combine, loss_ratios

BEFORE = torch.tensor([0.5, -0.2, 0.0, 1.0]).double()
COPIES = torch.tensor(
    [[0.6, -0.1, 0.0, 0.9], [0.4, -0.3, 0.1, 1.1], [0.5, -0.2, -0.1, 1.2], [0.7, -0.4, 0.0, 0.8]]
).double()
RATIOS = loss_ratios((0.8, 1.9, 0.45, 3.0), (1.0, 2.0, 0.5, 4.0))
ENDS = (0, 3)
RULES = ("loss_ratio", "inverse_impact", "loss_ratio_over_impact", "uniform")
WORKED = {  # α, β, φ signed, φ literal
    "loss_ratio": (
        (0.237066, 0.275431, 0.261998, 0.225504),
        0.001744,
        (0.541130, -0.247891, 0.001343, 1.011238),
        (0.596485, -0.102603, 0.053743, 1.148853),
    ),
    "inverse_impact": (
        (0.307692, 0.230769, 0.307692, 0.153846),
        0.001568,
        (0.538341, -0.222136, -0.007692, 1.023169),
        (0.584736, -0.114444, 0.053846, 1.146246),
    ),
    "loss_ratio_over_impact": (
        (0.289674, 0.252415, 0.320139, 0.137773),
        0.001608,
        (0.531157, -0.222864, -0.006772, 1.032842),
        (0.581887, -0.117272, 0.057255, 1.145886),
    ),
}
CLOSE = {"rtol": 0, "atol": 1e-6}


def close(found, expected):
    assert_close(found, torch.tensor(expected).double(), **CLOSE)


def test_ratios_of_losses_are_clipped():
    close(RATIOS, (0.8, 0.95, 0.9, 0.75))
    close(loss_ratios((9.0, 0.1, 1.0), (1.0, 1.0, 0.0)), (2.0, 0.5, 1.0))


def test_canberra_of_the_first_and_the_last_copy():
    apart = canberra(COPIES[0], COPIES[3])
    close(apart, (-0.076923, 0.6, 0.0, 0.058824))
    assert float(apart.abs().sum()) == pytest.approx(0.735747, abs=1e-6)


@pytest.mark.parametrize("rule", WORKED)
def test_the_worked_epoch(rule):
    alpha, beta, signed, literal = WORKED[rule]
    found = combine(BEFORE, COPIES, RATIOS, ENDS, TemporalEnsemble(coefficients=rule))
    close(found.impact, (0.075, 0.1, 0.075, 0.15))
    close(found.alpha, alpha)
    assert found.beta == pytest.approx(beta, abs=1e-6)
    close(found.weights, signed)
    printed = TemporalEnsemble(coefficients=rule, literal=True)
    close(combine(BEFORE, COPIES, RATIOS, ENDS, printed).weights, literal)


def test_even_coefficients_without_task_gradient_give_the_mean():
    how = TemporalEnsemble(coefficients="uniform", task_gradient=0)
    found = combine(BEFORE, COPIES, RATIOS, ENDS, how)
    close(found.weights, (0.55, -0.25, 0.0, 1.0))
    close(found.weights, COPIES.mean(0).tolist())


def test_a_low_temperature_lets_one_task_win():
    found = coefficients("loss_ratio", RATIOS, torch.ones(4).double(), 0.1)
    close(found, (0.113552, 0.508907, 0.308668, 0.068873))


@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from(RULES))
def test_what_holds_for_any_copies(seed, tasks, rule):
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(7, generator=generator).double()
    copies = before + 0.1 * torch.randn(tasks, 7, generator=generator).double()
    losses = (0.1 + torch.rand(2, tasks, generator=generator).double()).tolist()
    ratios, how = loss_ratios(*losses), TemporalEnsemble(coefficients=rule)
    ends = (0, tasks - 1)
    found = combine(before, copies, ratios, ends, how)
    assert (found.alpha > 0).all()
    assert float(found.alpha.sum()) == pytest.approx(1)
    if rule == "inverse_impact":
        assert_close(found.alpha * found.impact, (found.alpha * found.impact)[:1].expand(tasks))
    scaled = loss_ratios([7 * losses[0][0], *losses[0][1:]], [7 * losses[1][0], *losses[1][1:]])
    assert_close(scaled, ratios)
    # The task gradient changes its sign with the ends; as printed, it has none.
    middle = combine(before, copies, ratios, ends, how.model_copy(update={"task_gradient": 0.0}))
    swapped = combine(before, copies, ratios, ends[::-1], how)
    assert_close(found.weights + swapped.weights, 2 * middle.weights)
    printed = how.model_copy(update={"literal": True})
    literal = combine(before, copies, ratios, ends, printed)
    assert (literal.weights >= before).all()
    assert_close(literal.weights, combine(before, copies, ratios, ends[::-1], printed).weights)
    alike = copies[:1].expand(tasks, -1)
    same = combine(before, alike, torch.ones(tasks).double(), ends, how)
    assert_close(same.weights, copies[0])
    assert_close(same.alpha, torch.full_like(same.alpha, 1 / tasks))
    assert_close(combine(before, alike, ratios, ends, how).weights, copies[0])
    assert same.beta == 0


@given(st.integers(0, 10_000))
def test_canberra_is_bounded_and_free_of_scale(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 9, generator=generator).double()
    apart = canberra(a, b)
    assert (apart.abs() <= 1).all()
    assert_close(canberra(b, a).abs(), apart.abs())
    assert_close(canberra(3 * a, 3 * b), apart)
    assert not canberra(a, a).any()
    assert not canberra(torch.zeros(3), torch.zeros(3)).any()


def quadratics(how: TemporalEnsemble, epochs: int = 30) -> float:
    """The summed loss of four quadratic tasks after training their copies in parallel."""
    generator = torch.Generator().manual_seed(0)
    optima = torch.randn(4, 50, generator=generator).double()
    curvature = torch.tensor([10.0, 1.0, 1.0, 0.1]).double()
    phi = torch.randn(50, generator=generator).double()
    before = torch.ones(4).double()
    for _ in range(epochs):
        copies = phi.expand(4, -1).clone()
        for _ in range(10):
            copies -= 0.05 * curvature[:, None] * (copies - optima)
        losses = (curvature * (copies - optima).square().sum(1) / 2).clamp(min=1e-9)
        phi = combine(
            phi, copies, loss_ratios(losses.tolist(), before.tolist()), (0, 3), how
        ).weights
        before = losses
    return float((curvature * (phi - optima).square().sum(1)).sum() / 2)


def test_the_printed_equation_diverges_and_the_signed_one_does_not():
    signed = quadratics(TemporalEnsemble(coefficients="uniform", task_gradient=0))
    literal = quadratics(TemporalEnsemble(coefficients="uniform", task_gradient=0, literal=True))
    assert signed < 1e3
    assert literal > 1e6 * signed

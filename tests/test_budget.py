"""Budgets: what their units mean, and amounts that read back as budgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.budget import Budget, amount
from polytask.errors import UserError


@pytest.mark.parametrize(
    ("text", "limit", "unit"),
    [
        ("35MMAC", 35e6, "macs"),
        ("35.05 MMACs", 35.05e6, "macs"),
        ("1.5GMAC", 1.5e9, "macs"),
        ("2Mparams", 2e6, "params"),
        ("900kparams", 9e5, "params"),
        ("800MAC", 800, "macs"),
        ("5ms", 5, "ms"),
        ("0.5s", 500, "ms"),
    ],
)
def test_units(text, limit, unit):
    budget = Budget.parse(text)
    assert budget.limit == pytest.approx(limit)
    assert budget.unit == unit


@pytest.mark.parametrize("text", ["", "35", "35M", "MMAC", "-3MMAC", "0ms", "5 minutes", "35MMAC5"])
def test_no_budget_is_told_with_what_was_expected(text):
    with pytest.raises(UserError) as error:
        Budget.parse(text)
    (fault,) = error.value.faults
    assert fault.where == "--budget"
    assert f'got "{text}"' in fault.problem
    assert "35MMAC, 2Mparams or 5ms" in fault.problem


@given(st.integers(1, 10**12), st.sampled_from(["macs", "params"]))
def test_an_amount_is_a_budget_that_allows_it(used, unit):
    said = Budget.parse(amount(used, unit))
    assert said.unit == unit
    assert said.allows(used)
    assert said.limit <= used * 1.01 + 1


def test_a_budget_reads_its_own_unit():
    cost = {"macs": 7, "params": 11}
    assert Budget.parse("1MMAC").used(cost, lambda: 3.0) == 7
    assert Budget.parse("1Mparams").used(cost, lambda: 3.0) == 11
    assert Budget.parse("1ms").used(cost, lambda: 3.0) == 3.0

"""Alternated rounds, and what is read from their ratios."""

import pytest
from benchmarks.timing import Result, Target, alternate, in_turn, ratios
from hypothesis import given
from hypothesis import strategies as st


def test_contenders_take_turns_and_warm_up_is_left_out():
    now = iter(range(1000))
    order = []
    seconds = alternate(
        {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), next(now))},
        rounds=3,
        warm_up=1,
        clock=lambda: next(now),
    )
    assert "".join(order) == "ab" + "ba" + "ab" + "ba"
    assert seconds == {"a": [1, 1, 1], "b": [2, 2, 2]}


def test_ratios_are_of_the_same_round():
    assert ratios([2.0, 3.0], [4.0, 1.0]) == [0.5, 3.0]
    assert ratios([2.0, 3.0], [4.0, 1.0], expected=0.5) == [1.0, 6.0]


def test_items_come_again():
    seen = []
    step = in_turn(seen.append, [1, 2])
    for _ in range(3):
        step()
    assert seen == [1, 2, 1]


@pytest.mark.parametrize(
    ("rounds", "bounds"), [(1, (1, 1)), (5, (1, 5)), (6, (1, 6)), (10, (2, 9)), (20, (6, 15))]
)
def test_interval_is_that_of_the_sign_test(rounds, bounds):
    """Ranks from any table of confidence intervals of a median, 95 %."""
    assert Result("", "", list(range(rounds, 0, -1))).interval == bounds


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_interval_and_quartiles_hold_the_median(found):
    result = Result("", "", found)
    for low, high in (result.interval, result.quartiles):
        assert min(found) <= low <= result.median <= high <= max(found)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (Target(high=1.1), "met"),
        (Target(high=1.02), "unclear"),
        (Target(high=0.9), "missed"),
        (Target(low=0.9), "met"),
        (Target(low=1.02), "unclear"),
        (Target(low=1.1), "missed"),
    ],
)
def test_verdict(target, verdict):
    assert Result("", "", [1.0, 1.01, 1.02, 1.03, 1.04, 1.05], target).verdict == verdict

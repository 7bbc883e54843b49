"""How numbers are written."""

import math

import pytest

from polytask import registry
from polytask.report import numbers
from polytask.tasks.task import Task


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (2, "2"),
        (999, "999"),
        (999.6, "1.00 k"),
        (1234, "1.23 k"),
        (12_345, "12.3 k"),
        (999_499, "999 k"),
        (999_999, "1.00 M"),
        (25_557_032, "25.6 M"),
        (4_089_184_256, "4.09 G"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_counts_have_three_digits_and_never_a_thousand_of_a_unit(amount, text):
    assert numbers.count(amount) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.93449, "93.4"),
        ("miou", 1.0, "100.0"),
        ("abs_error", 0.12345, "0.123"),
        ("mae", 1.25, "1.25"),
        ("mean_angle", 24.56, "24.6"),
        ("mean_angle", 0.0, "0.0"),
        ("accuracy", None, "–"),
        ("accuracy", math.inf, "–"),
    ],
)
def test_shares_are_percent_with_one_decimal_and_errors_keep_their_unit(metric, value, text):
    assert numbers.score(metric, value) == text


def test_no_spread_is_claimed_for_one_seed():
    assert numbers.mean_std("accuracy", 0.5, 0.01, [0.49, 0.51]) == "50.0 ± 1.0"
    assert numbers.mean_std("abs_error", 0.854, 0.0217, [0.8, 0.9]) == "0.854 ± 0.022"
    assert numbers.mean_std("mean_angle", 24.56, 1.26, [24, 25]) == "24.6 ± 1.3"
    assert numbers.mean_std("accuracy", 0.5, 0.0, [0.5]) == "50.0"
    assert numbers.mean_std("accuracy", 0.5, None, [0.5, None]) == "50.0"
    assert numbers.mean_std("accuracy", None, None, [None]) == "–"


def test_gains_carry_a_sign_and_intervals_brackets():
    assert numbers.signed(1.84) == "+1.8"
    assert numbers.signed(-0.4) == "−0.4"
    assert numbers.interval((-0.4, 3.1)) == "[−0.4, 3.1]"
    assert numbers.interval((None, 3.1)) == numbers.interval(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (4320, "1 h 12 min"),
    ],
)
def test_durations_read_aloud(seconds, text):
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize("kind", list(registry.entries("tasks")))
def test_what_is_better_smaller_has_a_unit_and_the_rest_is_a_share(kind):
    task = registry.load("tasks", kind, Task)
    assert numbers.is_percent(task.primary) == task.higher_is_better

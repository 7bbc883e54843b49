"""Verdicts: a table of cases, each with the sentence a user reads."""

import math

import pytest

from polytask.compare.statistics import Gain
from polytask.compare.verdict import Sampling, judge, number, percent


def gain(*values):
    return Gain(dict(enumerate(values)))


@pytest.mark.parametrize(
    ("values", "value", "reason"),
    [
        # mean 2, s = 0.5, 4.30265 · 0.5/√3 = 1.242
        ((1.5, 2.0, 2.5), "helps", "+2.0 % [0.8, 3.2] over 3 seeds"),
        ((-1.5, -2.0, -2.5), "hurts", "−2.0 % [−3.2, −0.8] over 3 seeds"),
        # mean 1, s = 1, 4.30265/√3 = 2.484
        ((0.0, 1.0, 2.0), "unclear", "no difference shown at 3 seeds: +1.0 % [−1.5, 3.5]"),
        ((0.0, 0.0, 0.0), "unclear", "no difference shown at 3 seeds: +0.0 % [0.0, 0.0]"),
        ((5.0, 5.1), "unclear", "2 seeds, a verdict needs 3: +5.0 % on average"),
        ((-5.0,), "unclear", "1 seed, a verdict needs 3: −5.0 %"),
    ],
)
def test_a_claim_needs_three_seeds_and_an_interval_that_excludes_zero(values, value, reason):
    verdict = judge(gain(*values))
    assert verdict.value == value
    assert verdict.reason == reason


def test_failed_runs_make_it_unclear_however_good_the_others_are():
    verdict = judge(gain(9.0, 9.1, 9.2), failures="seed 3 diverged (task read)")
    assert verdict.value == "unclear"
    assert verdict.reason.startswith("seed 3 diverged (task read); the others: +9.1 % [8.9, 9.3]")


def test_without_a_gain_the_reason_says_why():
    assert judge(None, missing="pretext task").reason == "pretext task"
    assert judge(None, failures="seed 0 failed").reason == "seed 0 failed"
    assert judge(None).value == "unclear"


def test_a_test_set_smaller_than_the_seed_spread_can_show_is_named():
    # p(1−p)/n = 0.25/100 for each of two networks: 1.96·√0.005 = 0.1386 of 0.5 is 27.7 %.
    sampling = Sampling.of_accuracies(0.5, 0.5, 100)
    assert sampling.reach == pytest.approx(27.72, abs=0.01)
    reason = judge(gain(1.5, 2.0, 2.5), sampling=sampling).reason
    assert reason.endswith("; 100 test images alone leave up to ±27.7 %")
    many = Sampling.of_accuracies(0.5, 0.5, 10_000_000)
    assert judge(gain(1.5, 2.0, 2.5), sampling=many).reason == "+2.0 % [0.8, 3.2] over 3 seeds"


def test_sampling_error_falls_with_the_root_of_the_test_set():
    small, large = (Sampling.of_accuracies(0.9, 0.8, n).reach for n in (50, 5000))
    assert small / large == pytest.approx(10)


def test_remarks_come_last():
    assert judge(gain(1.5, 2.0, 2.5), notes=("at chance",)).reason.endswith("seeds; at chance")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.84, "1.8"),
        (-0.04, "−0.04"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (0.004, "0.004"),
        (-12.35, "−12.3"),
    ],
)
def test_numbers_keep_a_digit_that_is_not_zero(value, text):
    assert number(value) == text


def test_percentages_carry_their_sign():
    assert percent(0.3) == "+0.3 %"
    assert percent(-0.3) == "−0.3 %"
    assert percent(-math.ulp(0.0)) == "+0.0 %"

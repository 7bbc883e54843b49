"""Gains over single-task networks: worked numbers, an independent reference, pairing by seed."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polytask.compare.statistics import Gain, gains, relative_gain, t_interval, t_quantile

SINGLE = {seed: {"read": 0.8, "depth": 2.0} for seed in (0, 1, 2)}
METHOD = {
    0: {"read": 0.84, "depth": 1.9},
    1: {"read": 0.80, "depth": 2.0},
    2: {"read": 0.88, "depth": 2.2},
}
BETTER = {"read": True, "depth": False}
scores = st.floats(0.01, 1.0)


def test_delta_m_is_the_mean_over_tasks_of_signed_relative_gains():
    found = gains(METHOD, SINGLE, BETTER)
    # read: (0.84 − 0.8)/0.8 = 5 %, 0 %, 10 %; depth, lower is better: 5 %, 0 %, −10 %.
    assert found.tasks["read"].per_seed == pytest.approx({0: 5, 1: 0, 2: 10})
    assert found.tasks["depth"].per_seed == pytest.approx({0: 5, 1: 0, 2: -10})
    assert found.delta_m.per_seed == pytest.approx({0: 5, 1: 0, 2: 0})
    # mean 5/3, s = 5/√3, t(0.975, 2) = 4.30265: 1.6667 ± 4.30265 · (5/√3)/√3 = ± 7.17108
    assert found.delta_m.mean == pytest.approx(1.66667, abs=1e-5)
    assert found.delta_m.interval == pytest.approx((-5.50442, 8.83775), abs=1e-4)


@pytest.mark.parametrize(("freedom", "table"), [(1, 12.706), (2, 4.303), (9, 2.262), (1000, 1.962)])
def test_quantiles_are_those_of_the_printed_table(freedom, table):
    assert t_quantile(freedom) == pytest.approx(table, abs=5e-4)


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=12).filter(lambda v: max(v) - min(v) > 0.1)
)
@settings(max_examples=50, deadline=None)
def test_interval_is_scipys(values):
    want = stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values)
    )
    assert t_interval(values) == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_one_seed_has_no_interval():
    assert t_interval([1.0]) is None
    assert Gain({3: 1.0}).interval is None
    assert Gain({3: 1.0}).mean == 1.0


@given(
    st.dictionaries(
        st.integers(0, 20), st.tuples(scores, scores, scores, scores), min_size=2, max_size=8
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50, deadline=None)
def test_the_order_of_seeds_changes_nothing(table, shuffler):
    method = {seed: {"a": row[0], "b": row[1]} for seed, row in table.items()}
    single = {seed: {"a": row[2], "b": row[3]} for seed, row in table.items()}
    want = gains(method, single, {"a": True, "b": False})
    mixed = [dict(shuffler.sample(list(s.items()), len(s))) for s in (method, single)]
    got = gains(*mixed, {"a": True, "b": False})
    assert got.delta_m.per_seed == want.delta_m.per_seed
    assert got.delta_m.mean == want.delta_m.mean
    assert got.delta_m.interval == want.delta_m.interval


def test_pairing_by_seed_takes_out_what_seeds_have_in_common():
    # Seeds differ by far more than the methods do: paired, the gain of 1 % is beyond doubt.
    single = {seed: {"a": 0.3 + 0.2 * seed} for seed in range(4)}
    method = {seed: {"a": 1.01 * s["a"]} for seed, s in single.items()}
    found = gains(method, single, {"a": True}).delta_m
    assert found.interval == pytest.approx((1.0, 1.0))
    swapped = {seed: method[3 - seed] for seed in method}
    low, high = gains(swapped, single, {"a": True}).delta_m.interval
    assert low < 0 < high


def test_only_seeds_that_both_have_finished_are_paired():
    found = gains({0: {"a": 0.6}, 2: {"a": 0.9}}, {0: {"a": 0.5}, 1: {"a": 0.5}}, {"a": True})
    assert found.delta_m.per_seed == pytest.approx({0: 20.0})


@pytest.mark.parametrize(
    ("method", "single", "reason"),
    [
        (0.5, 0.0, "the single-task score is zero"),
        (0.5, None, "no single-task score"),
        (0.5, float("nan"), "no single-task score"),
        (None, 0.5, "no own score"),
    ],
)
def test_tasks_without_a_score_to_compare_are_left_out_of_every_seed(method, single, reason):
    ours = {seed: {"a": 0.6, "b": method if seed == 1 else 0.5} for seed in range(3)}
    theirs = {seed: {"a": 0.5, "b": single if seed == 1 else 0.5} for seed in range(3)}
    found = gains(ours, theirs, {"a": True, "b": True})
    assert found.left_out == {"b": reason}
    assert list(found.tasks) == ["a"]
    assert found.delta_m.per_seed == pytest.approx({0: 20, 1: 20, 2: 20})


def test_a_task_left_out_on_purpose_keeps_its_reason():
    found = gains(METHOD, SINGLE, BETTER, {"depth": "pretext task"})
    assert found.left_out == {"depth": "pretext task"}
    assert found.delta_m.per_seed == found.tasks["read"].per_seed


def test_nothing_to_compare_is_no_gain():
    assert gains({}, SINGLE, BETTER).delta_m is None
    assert gains(METHOD, SINGLE, BETTER, dict.fromkeys(BETTER, "pretext task")).delta_m is None


@given(scores, scores)
@settings(max_examples=50, deadline=None)
def test_direction_turns_the_sign(method, single):
    assert relative_gain(method, single, True) == -relative_gain(method, single, False)


def test_simulated_intervals_hold_the_truth_95_times_in_100():
    draw = random.Random(0)
    trials = 2000
    held = 0
    for _ in range(trials):
        low, high = t_interval([draw.gauss(2.0, 3.0) for _ in range(3)])
        held += low <= 2.0 <= high
    # 95 % of 2000 is 1900 with a standard deviation of 9.7; four of them either way.
    assert abs(held - 0.95 * trials) < 40

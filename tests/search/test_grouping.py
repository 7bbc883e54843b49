"""Groups of tasks: the best of all groupings, by what tasks do to one another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.errors import UserError
from polytask.search.grouping import gain, propose

effects = st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(-5, 5).map(float), min_size=n, max_size=n), min_size=n, max_size=n
    )
)


def partitions(items):
    """Every way to part a list into groups."""
    if not items:
        yield []
        return
    first, *rest = items
    for parts in partitions(rest):
        yield [[first], *parts]
        for i, part in enumerate(parts):
            yield [*parts[:i], [first, *part], *parts[i + 1 :]]


@given(effects, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_grouping_is_better(effect, networks):
    groups, total = propose(effect, networks)
    assert sorted(i for group in groups for i in group) == list(range(len(effect)))
    assert len(groups) <= networks
    assert total == pytest.approx(sum(gain(effect, group) for group in groups))
    everything = [p for p in partitions(list(range(len(effect)))) if len(p) <= networks]
    best = max(sum(gain(effect, group) for group in parts) for parts in everything)
    assert total == pytest.approx(best)


def test_a_task_gains_the_mean_effect_of_the_others():
    effect = [[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]]
    assert gain(effect, [0, 1, 2]) == pytest.approx((3 + 5) / 2 + (1 + 6) / 2 + (2 + 4) / 2)
    assert gain(effect, [0, 2]) == 2.0 + 5.0
    assert gain(effect, [1]) == 0.0


def test_helpful_tasks_meet_and_harmful_ones_part():
    effect = [[0, 2, -1, -1], [2, 0, -1, -1], [-1, -1, 0, 3], [-1, -1, 3, 0]]
    assert propose(effect, 2) == ([[0, 1], [2, 3]], 10)
    harm = [[0, -1], [-1, 0]]
    assert propose(harm, 2) == ([[0], [1]], 0)
    assert propose(harm, 1) == ([[0, 1]], -2)


def test_too_many_tasks_are_told():
    with pytest.raises(UserError, match="got 13 tasks"):
        propose([[0.0] * 13] * 13, 2)

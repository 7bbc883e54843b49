"""Which tasks to train together, from how much each helps each other.

Source: Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning", NeurIPS
2021, §3.2: what a task gains in a group is the mean effect of the others on it.

Differs from the paper: groups do not overlap, so that a task is trained once; a task alone gains 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from polytask.errors import UserError

MOST_TASKS = 12  # all partitions are compared: 3¹² steps take seconds, 3¹⁵ minutes


def gain(effect: Sequence[Sequence[float]], group: Sequence[int]) -> float:
    """What the tasks of a group gain together; `effect[i][j]` is that of task i on task j."""
    if len(group) < 2:
        return 0.0
    others = len(group) - 1
    return sum(effect[i][j] / others for i in group for j in group if i != j)


def propose(effect: Sequence[Sequence[float]], networks: int) -> tuple[list[list[int]], float]:
    """The groups, at most `networks`, in which tasks gain most, and what they gain.

    Raises:
        UserError: there are too many tasks to compare all groupings.
    """
    count = len(effect)
    if count > MOST_TASKS:
        problem = f"got {count} tasks; groups are found for up to {MOST_TASKS}"
        raise UserError.at("tasks", problem, "Leave some out with a config of fewer tasks.")

    @cache
    def gain_of(members: int) -> float:
        return gain(effect, _listed(members))

    @cache
    def best(left: int, networks: int) -> tuple[float, tuple[int, ...]]:
        """The gain of the tasks that are left, and their groups as bits."""
        if not left:
            return 0.0, ()
        if networks == 1:
            return gain_of(left), (left,)
        first = left & -left
        rest = left ^ first
        found: tuple[float, tuple[int, ...]] = (float("-inf"), ())
        others = rest
        while True:  # every subset of the rest, with the first task
            group = others | first
            after, groups = best(left ^ group, networks - 1)
            total = gain_of(group) + after
            if total > found[0]:
                found = total, (group, *groups)
            if not others:
                return found
            others = (others - 1) & rest

    total, groups = best((1 << count) - 1, networks)
    return [_listed(group) for group in groups], total


def _listed(members: int) -> list[int]:
    return [i for i in range(members.bit_length()) if members >> i & 1]

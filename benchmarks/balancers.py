"""A training step with every balancer, three tasks: against the bare step of hard sharing, and
against the same mathematics by hand.

A bare step has one forward and one backward pass; aggregation on shared parameters has a backward
pass a task, which alone is about 2.33 times as much; on the representation the trunk is passed back
once. What is random (as the order of tasks in `pcgrad`) is drawn anew on either side.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.by_hand.balancers import BY_HAND, ON_FEATURES, RULES
from benchmarks.by_hand.trunks import Hard
from benchmarks.step import check
from benchmarks.timing import Result, Target, alternate, in_turn, ratios
from benchmarks.workload import Training, Workload
from polytask import registry
from polytask.errors import MissingExtra

WORK = Workload(side=32, batch=64, width=0.25, stem="small")
# What DESIGN aims at; the others are told without a target.
AIMS = {
    **dict.fromkeys(("equal", "fixed", "random", "dwa", "uncertainty", "gradnorm"), 1.3),
    **dict.fromkeys(("pcgrad", "mgda", "cagrad"), 2.6),
}
AIM_ON_FEATURES = 1.3
DRAWS = ("random", "pcgrad", "graddrop", "gradvac")  # losses part after the first step
ROUNDS = 12
CHEAP_ROUNDS = 40  # where a backward pass is all, and the ratio near 1


def run(rounds: int | None) -> Iterator[Result]:
    """Time every balancer in turn; those whose extra is missing are left out."""
    for name in registry.names("balancing"):
        number = rounds or (ROUNDS if name in RULES else CHEAP_ROUNDS)
        yield from _measured(name, name, BY_HAND[name], AIMS.get(name), number)
    for name, by_hand in ON_FEATURES.items():
        spec = {name: {"on": "representation"}}
        number = rounds or CHEAP_ROUNDS
        yield from _measured(f"{name}, on features", spec, by_hand, AIM_ON_FEATURES, number)


def _measured(
    words: str,
    spec: str | dict[str, dict[str, str]],
    by_hand: type[Hard],
    aim: float | None,
    rounds: int,
) -> Iterator[Result]:
    try:
        ours = WORK.training("hard", balancing=spec)
    except MissingExtra:
        return
    bare, theirs = _loaded(Hard, ours), _loaded(by_hand, ours)
    if not words.startswith(DRAWS):
        check(words, ours, theirs)
    contenders = {
        "ours": ours.turns(),
        "bare": in_turn(bare.step, ours.batches),
        "by hand": in_turn(theirs.step, ours.batches),
    }
    seconds = alternate(contenders, rounds)
    work = f"balancer: {words}, ¼ width"
    aimed = None if aim is None else Target(high=aim)
    for other, against, target in (
        ("bare", "hard by hand in PyTorch", aimed),
        ("by hand", "the same by hand", Target(high=1.05)),
    ):
        yield Result(work, against, ratios(seconds["ours"], seconds[other]), target)


def _loaded(kind: type[Hard], ours: Training) -> Hard:
    made = kind(WORK)
    made.load(ours.loop.method)
    return made

"""A training step with every balancer against the bare step of hard sharing, three tasks.

A bare step has one forward and one backward pass; aggregation on shared parameters has a backward
pass a task, which alone is about 2.33 times as much.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.by_hand.trunks import Hard
from benchmarks.timing import Result, Target, alternate, in_turn, ratios
from benchmarks.workload import Workload
from polytask import registry
from polytask.errors import MissingExtra

WORK = Workload(side=32, batch=64, width=0.25, stem="small")
# What DESIGN aims at; the others are told without a target.
AIMS = {
    **dict.fromkeys(("equal", "fixed", "random", "dwa", "uncertainty", "gradnorm"), 1.3),
    **dict.fromkeys(("pcgrad", "mgda", "cagrad"), 2.6),
}
ROUNDS = 12


def run(rounds: int | None) -> Iterator[Result]:
    """Time every balancer in turn with the bare step; those whose extra is missing are left out."""
    for name in registry.names("balancing"):
        try:
            ours = WORK.training("hard", balancing=name)
        except MissingExtra:
            continue
        theirs = Hard(WORK)
        theirs.load(ours.loop.method)
        seconds = alternate(
            {"ours": ours.turns(), "theirs": in_turn(theirs.step, ours.batches)}, rounds or ROUNDS
        )
        aim = AIMS.get(name)
        target = None if aim is None else Target(high=aim)
        found = ratios(seconds["ours"], seconds["theirs"])
        yield Result(f"balancer: {name}, ¼ width", "hard by hand in PyTorch", found, target)

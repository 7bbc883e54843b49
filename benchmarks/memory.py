"""Peak memory of training steps against the same mathematics by hand.

What torch allocates is counted, not what the process holds, which depends on what it did before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.step import DENSE, WORK
from benchmarks.timing import Result, Target, ratios
from polytask.training.profile import quiet

STEPS = 3  # the optimizer's state is there from the second step on


def run(rounds: int | None) -> Iterator[Result]:
    """Compare the peaks of gradients, optimizer's state and maps; one round, as they repeat."""
    del rounds
    for work in (*WORK, *DENSE):
        ours = work.workload.training(work.method, work.options, turn=work.turn)
        theirs = work.by_hand(work.workload)
        theirs.load(ours.loop.method)
        batch = ours.batches[0]
        peaks = peak(partial(ours.step, batch)), peak(partial(theirs.step, batch))
        found = ratios(peaks[:1], peaks[1:])
        yield Result(f"memory: {work.name}", "by hand in PyTorch", found, Target(high=1.05))


def peak(step: Callable[[], None], device: str = "cpu", held: int = 0) -> int:
    """The most bytes that are allocated at a time during a few first steps; on a GPU, beyond those
    that were `held` before the network was made."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        for _ in range(STEPS):
            step()
        return torch.cuda.max_memory_allocated() - held
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(STEPS):
            step()
    most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most

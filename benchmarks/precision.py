"""What memory layout, bf16 and torch.compile do to the time and the peak memory of a step.

On a GPU if there is one, else on the CPU. A plain step is in float32, in the default layout and not
compiled; on a GPU its convolutions may use TF32, as torch has them by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.testing import assert_close

from benchmarks.memory import peak
from benchmarks.step import LARGE
from benchmarks.timing import Result, alternate, clock_of, ratios
from benchmarks.workload import Workload

PLAIN = "plain"
WAYS: dict[str, Mapping[str, Any]] = {
    PLAIN: {"channels_last": False},
    "channels_last": {"channels_last": True},
    "bf16": {"channels_last": False, "precision": "bf16"},
    "channels_last, bf16": {"channels_last": True, "precision": "bf16"},
    "compile": {"channels_last": False, "compile": True},
    "channels_last, compile": {"channels_last": True, "compile": True},
    "all three": {"channels_last": True, "precision": "bf16", "compile": True},
}


@dataclass(frozen=True)
class Work:
    """A method in training; `on_cpu` where a step there takes no longer than a second or two."""

    name: str
    workload: Workload
    method: str = "hard"
    balancing: str = "equal"
    on_cpu: bool = True


WORK = (
    Work("hard, 64 px, batch 32", LARGE),
    Work("hard with gradnorm, 64 px", LARGE, balancing="gradnorm"),
    Work("cross_stitch, 3 columns, 64 px", LARGE, method="cross_stitch"),
    Work("hard, 224 px, batch 64", Workload(side=224, batch=64), on_cpu=False),
)
ROUNDS = {"cpu": 8, "cuda": 40}


def run(rounds: int | None) -> Iterator[Result]:
    """Time a step of every work in every way; what is compiled is compiled before."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for work in WORK:
        if device == "cuda" or work.on_cpu:
            yield from _measured(work, device, rounds or ROUNDS[device])


def _measured(work: Work, device: str, rounds: int) -> Iterator[Result]:
    contenders, peaks, losses = {}, {}, {}
    for way, train in WAYS.items():
        held = torch.cuda.memory_allocated() if device == "cuda" else 0
        ours = work.workload.training(
            work.method, balancing=work.balancing, device=device, train=train
        )
        ours.step(ours.batches[0])  # the first alone: rounding grows with every further one
        losses[way] = torch.tensor(list(ours.loop.last_losses.values()))
        # TF32 has ten bits after the first, bf16 seven; ways may differ by rounding alone.
        is_rounded = device == "cuda" or "precision" in train
        bound = 0.2 if is_rounded else 1e-3
        assert_close(losses[way], losses[PLAIN], rtol=bound, atol=bound, msg=f"{work.name}: {way}")
        peaks[way] = peak(partial(ours.step, ours.batches[0]), device, held)
        contenders[way] = ours.turns()
    seconds = alternate(contenders, rounds, warm_up=4, clock=clock_of(device))
    milliseconds = [1000 * each for each in seconds[PLAIN]]
    yield Result(f"{device}: {work.name}", "(a plain step)", milliseconds, None, " ms")
    for way in WAYS:
        if way != PLAIN:
            found = ratios(seconds[way], seconds[PLAIN])
            yield Result(f"{device}: {work.name}", f"{way}: time", found)
            found = ratios([peaks[way]], [peaks[PLAIN]])
            yield Result(f"{device}: {work.name}", f"{way}: memory", found)

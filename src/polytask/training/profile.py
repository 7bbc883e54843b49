"""Where the time and the memory of a training step go, part by part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as profiled

from polytask.training.loop import Loop
from polytask.training.run import Run, prepare_process

if TYPE_CHECKING:
    from polytask.batch import Batch
    from polytask.config.models import Config, MethodEntry

# `trunk` is the forward pass but for heads, `backward` that but for what an aggregator makes of the
# tasks' gradients; `other` is what is in no part: hooks, counting, moving batches.
PARTS = ("data", "trunk", "heads", "losses", "backward", "aggregation", "optimizer", "other")
INSIDE = {"heads": "trunk", "aggregation": "backward"}
WARM_UP = 3
LABEL = "polytask:"


@dataclass(frozen=True)
class Part:
    """Seconds of a part in a step, and the most bytes that are allocated while it runs."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Profile:
    """A method's step: median seconds of each part, and the peak of all."""

    method: str
    device: str
    images: int
    step_seconds: float
    peak_bytes: int
    parts: dict[str, Part]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class Watch:
    """Times the parts of a loop's steps by standing between the loop and what it calls."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.seconds = dict.fromkeys(PARTS, 0.0)
        method, balancer = loop.method, loop.balancer
        self._wrap(method, "forward", "trunk")
        for head in method.heads.children():
            self._wrap(head, "forward", "heads")
        for task in method.tasks.values():
            self._wrap(task, "loss", "losses")
        self._wrap(balancer, "backward", "backward")
        if hasattr(balancer, "aggregate"):
            self._wrap(balancer, "aggregate", "aggregation")
        self._wrap(loop.optimizers, "step", "optimizer")

    def _wrap(self, owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.part(part):
                return inner(*arguments, **keywords)

        if isinstance(owner, nn.Module):
            object.__setattr__(owner, name, timed)
        else:
            setattr(owner, name, timed)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside."""
        with record_function(LABEL + name):
            began = self._now()
            try:
                yield
            finally:
                passed = self._now() - began
                self.seconds[name] += passed
                if name in INSIDE:
                    self.seconds[INSIDE[name]] -= passed

    def _now(self) -> float:
        if self.loop.world.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One step; the seconds of each part."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        began = self._now()
        with self.part("data"):
            batch = next(batches)
        with record_function(LABEL + "other"):
            self.loop.step(batch)
        whole = self._now() - began
        self.seconds["other"] = whole - sum(self.seconds.values())
        return {"step": whole, **self.seconds}


def profile(config: Config, entry: MethodEntry, seed: int, steps: int = 20) -> Profile:
    """Measure some steps of a method's first phase, of joint updates, after a few to warm up.

    Raises:
        UserError: the input is wrong.
        Diverged: a loss is not finite.
    """
    prepare_process()
    run = Run.alone(config, entry, seed)
    first = run.plan(run.untrained_single_paths)[0]
    loop = Loop(config, run.method, run.data, run.world, first, seed, lambda _: None)
    run.method.on_phase_start(loop)
    watch = Watch(loop)
    batches = _endless(loop)
    for _ in range(WARM_UP):
        watch.step(batches)
    before = sum(loop.images.values())
    seconds = [watch.step(batches) for _ in range(steps)]
    images = (sum(loop.images.values()) - before) // steps
    peaks = _peaks(lambda: watch.step(batches), run.world.device)
    return Profile(
        entry.key,
        str(run.world.device),
        images,
        median(found["step"] for found in seconds),
        max(peaks.values(), default=0),
        {
            part: Part(median(found[part] for found in seconds), peaks.get(part, 0))
            for part in PARTS
        },
    )


def _endless(loop: Loop) -> Iterator[Batch]:
    while True:
        yield from loop.rule.batches(loop, 0)


def _peaks(step: Callable[[], object], device: torch.device) -> dict[str, int]:
    """The most bytes allocated during each part of a step, beyond those held before it."""
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with quiet(), profiled(activities=kinds, profile_memory=True) as found:
        step()
    spans, changes = [], []
    for event in found.profiler.kineto_results.events():
        if event.name().startswith(LABEL):
            end = event.start_ns() + event.duration_ns()
            spans.append((event.start_ns(), end, event.name().removeprefix(LABEL)))
        elif event.name() == "[memory]":
            changes.append((event.start_ns(), event.nbytes()))
    peaks: dict[str, int] = {}
    held = 0
    for at, change in sorted(changes):
        held += change
        around = [span for span in spans if span[0] <= at <= span[1]]
        if around:  # the innermost part is the one that began last
            name = max(around)[2]
            peaks[name] = max(peaks.get(name, 0), held)
    return peaks


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the profiler's remarks on itself, which it writes past Python, off the terminal."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

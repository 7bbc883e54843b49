"""Update rules: what drives one epoch of a phase. One file per rule."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from polytask.batch import Batch
from polytask.training.norms import relearn

if TYPE_CHECKING:
    from polytask.training.loop import Loop

RULES = ("joint", "alternating", "sequential", "closed_form", "dec", "temporal_ensemble")


class UpdateRule(ABC):
    """Drives one epoch, from a step of it on; its state is in the checkpoint.

    `run` calls `loop.step(batch)` for every update and `loop.tick()` after it, which counts the
    step and saves where it is due: between two ticks nothing may be left undone.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def part(self, loop: Loop) -> tuple[float, float]:
        """The share of the training images that the current epoch draws from."""
        return loop.phase.part

    def steps(self, loop: Loop) -> int:
        """Steps in one epoch."""
        phase = loop.phase
        return loop.data.steps(phase.tasks, self.part(loop), phase.joint_pace)

    def batches(
        self, loop: Loop, start: int, only: Collection[str] | None = None
    ) -> Generator[Batch, None, None]:
        """The epoch's batches from step `start` on; `only` these tasks need their inputs made."""
        phase, part = loop.phase, self.part(loop)
        return loop.data.epoch(
            loop.epoch,
            tasks=phase.tasks,
            part=part,
            joint_pace=phase.joint_pace,
            start=start,
            only=only,
        )

    @abstractmethod
    def run(self, loop: Loop, start: int) -> None:
        """One epoch from step `start` on."""

    @contextmanager
    def scored(self, loop: Loop) -> Iterator[None]:
        """Inside, the method holds what is scored and kept: by default its own weights, with
        statistics of batch norms as they are in use."""
        parts = loop.method.otherwise_in_use()
        buffers = [buffer for part in parts for buffer in part.buffers()]
        kept = [buffer.clone() for buffer in buffers]
        self.finish(loop)
        yield
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)

    def finish(self, loop: Loop) -> None:
        """Let the method hold that for good, at the end of the phase."""
        parts = loop.method.otherwise_in_use()
        if parts and loop.phase.forward is None:
            relearn(loop, parts)

    def meet(self, loop: Loop) -> None:
        """Let every process hold what each has trained alone; the state is saved next."""
        del loop

    def measured(self) -> dict[str, float]:
        """What the epoch's row in `metrics.jsonl` says of the rule."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers between epochs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` gave, read to the CPU; the run is on `device`."""
        del state, device


def build(spec: str | Mapping[str, Any]) -> UpdateRule:
    """A rule from its name, or `{name: options}`."""
    name, options = (spec, {}) if isinstance(spec, str) else next(iter(spec.items()))
    home = importlib.import_module(f"{__name__}.{name}")
    made: UpdateRule = home.Rule(**options)
    return made

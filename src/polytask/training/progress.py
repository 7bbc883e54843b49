"""What a run tells while it trains, as events that any display, queue or test can take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import SupportsFloat, TypeAlias

INTERVAL = 0.2  # seconds between two steps of a run that are told


@dataclass(frozen=True)
class Started:
    """A run begins, or goes on, at step `done_steps` of `total_steps`."""

    run: str
    total_steps: int
    done_steps: int = 0


@dataclass(frozen=True)
class Step:
    """Where a run is: steps done, each task's loss, and the time left in seconds once known."""

    run: str
    step: int
    losses: Mapping[str, float]
    seconds_left: float | None = None


@dataclass(frozen=True)
class Scored:
    """The validation scores after an epoch, metric values by task."""

    run: str
    epoch: int
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Finished:
    """A run has ended; `outcome` is a word: done, diverged, failed or stopped."""

    run: str
    outcome: str = "done"


@dataclass(frozen=True)
class Message:
    """A line for the user."""

    text: str


@dataclass(frozen=True)
class Overall:
    """How many runs of a comparison are over, and the time left in seconds once known."""

    done: int
    total: int
    seconds_left: float | None = None


Event: TypeAlias = Started | Step | Scored | Finished | Message | Overall
Show: TypeAlias = Callable[[Event], None]


def named(show: Show, name: str) -> Show:
    """Shows the events of a run under another name."""

    def renamed(event: Event) -> None:
        if isinstance(event, Started | Step | Scored | Finished):
            event = replace(event, run=name)
        show(event)

    return renamed


class Progress:
    """Turns what one run tells into events for `show`, and tells the run when to stop.

    Steps are told a few times a second at most, and losses are only read then, so that a trainer
    may call `step` after every update and hand over tensors.
    """

    def __init__(self, show: Show, interval: float = INTERVAL) -> None:
        self._show = show
        self._interval = interval
        self._run = ""
        self._total = self._first = 0
        self._began = 0.0
        self._told = float("-inf")
        self.is_stopping = False

    def stop(self) -> None:
        """Ask the run to save its state and stop after the current step."""
        self.is_stopping = True

    def run_started(self, name: str, total_steps: int, done_steps: int = 0) -> None:
        """A run begins, or goes on after `done_steps`."""
        self._run, self._total, self._first = name, total_steps, done_steps
        self._began = time.monotonic()
        self._told = float("-inf")
        self._show(Started(name, total_steps, done_steps))

    def step(self, step: int, losses: Mapping[str, SupportsFloat]) -> None:
        """`step` updates are done; the losses are those of the last one."""
        now = time.monotonic()
        if now - self._told < self._interval and step < self._total:
            return
        self._told = now
        made = step - self._first
        left = (now - self._began) / made * (self._total - step) if made > 0 else None
        read = {task: float(loss) for task, loss in losses.items()}
        self._show(Step(self._run, step, read, left))

    def epoch(self, epoch: int, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Validation after an epoch."""
        self._show(Scored(self._run, epoch, metrics))

    def run_finished(self, name: str) -> None:
        """The run is over."""
        self._show(Finished(name))

    def message(self, text: str) -> None:
        """Say a line to the user."""
        self._show(Message(text))


def ignore(event: Event) -> None:
    """Show nothing."""


class Silent(Progress):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(ignore)

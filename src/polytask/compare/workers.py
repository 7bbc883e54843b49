"""What trains runs for a comparison or a search: workers, one run each at a time, and their home.

A home starts workers: processes of this machine (`local.py`), or of a cluster (`on_ray.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias

from polytask.compare.worker import Check, Job

Inbox: TypeAlias = "SimpleQueue[tuple[Worker, Any]]"


class Worker(ABC):
    """A process and the job it has.

    What it says it puts into the inbox of its home's caller, with itself: events of a run, a
    `Reply` when a job is over, `None` when it has died, a `UserError` where it cannot serve.
    """

    job: Check | Job | None = None
    is_there = True  # while not, it waits for room, which others may take

    def give(self, job: Check | Job) -> None:
        """Start a job."""
        self.job = job
        self.send(job)

    @abstractmethod
    def send(self, message: object) -> None:
        """Send a job, or `Stop`; a dead worker is noticed by its `None`."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait for its end, which it was told to come to."""

    @abstractmethod
    def end(self) -> None:
        """End it at once."""

    @abstractmethod
    def cause_of_death(self) -> str:
        """Why it died."""


class Home(Protocol):
    """Where workers run."""

    def size(self, runs: int, wanted: int | None) -> int:
        """How many of some runs to train at once; `wanted` is what the user says."""

    def start(self, inbox: Inbox) -> Worker:
        """Start one more worker."""

    def close(self) -> None:
        """Leave; all workers have ended."""

"""The parent's side of parallel runs: workers that each train one run at a time."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

from polytask.compare.local import Local
from polytask.compare.worker import Check, Job, Reply, Setup, Stop
from polytask.compare.workers import Home, Inbox, Worker
from polytask.errors import Failed, UserError, nearest
from polytask.training.progress import Message, Show

LOCAL = "local"
ADDRESS = re.compile(r"(ray://)?[^/\s]+:\d+")
GRACE_SECONDS = 30.0  # for a run to save its state when told to stop
PATIENCE_SECONDS = 30.0  # with workers that nobody has room for, before that is said


class Pool:
    """Keeps workers alive over several runs, because importing torch takes seconds.

    A worker that dies is replaced, and its run goes on, once, from its last saved state.
    """

    def __init__(self, size: int, home: Home, show: Show) -> None:
        self._size, self._home, self._show = size, home, show
        self._inbox: Inbox = SimpleQueue()
        self._lost: set[Job] = set()
        self._workers = [home.start(self._inbox) for _ in range(size)]

    @classmethod
    def of(cls, runs: int, wanted: int | None, setup: Setup, on: str, show: Show) -> Pool:
        """As many workers as `wanted`, or as serve some runs best, where `on` says."""
        home = home_of(on, setup)
        return cls(home.size(runs, wanted), home, show)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let runs in training save their state, then end every worker."""
        deadline = time.monotonic() + GRACE_SECONDS
        busy = [worker for worker in self._workers if isinstance(worker.job, Job)]
        try:
            for worker in busy:
                worker.send(Stop())
            for worker in busy:
                worker.wait(deadline - time.monotonic())
        finally:
            while self._workers:
                self._workers.pop().end()
            self._home.close()

    def check(self) -> None:
        """Let a worker check the config against the data and the methods.

        Raises:
            UserError: with every fault.
            Failed: the worker died.
        """
        self._workers[0].give(Check())
        _, reply = self._next_reply()
        if reply.outcome == "wrong_input":
            raise UserError(reply.faults)
        if reply.outcome == "lost":
            raise Failed(reply.reason)
        if reply.outcome != "done":
            raise RuntimeError(reply.traceback or reply.reason)

    def train(self, jobs: Sequence[Job], ended: Callable[[Job, Reply], None]) -> None:
        """Train all runs, in order as workers become free; `ended` hears of each.

        A run whose process was lost is tried again after the others, which may by then have left
        it the memory that it lacked; lost once more, it is reported.
        """
        waiting = deque(jobs)
        self._hand_out(waiting)
        while any(worker.job for worker in self._workers):
            job, reply = self._next_reply()
            if isinstance(job, Check):
                continue
            if reply.outcome == "lost" and job not in self._lost:
                self._lost.add(job)
                self._show(Message(f"{job.name}: {reply.reason}; tried again, where it was saved"))
                waiting.append(job)
            else:
                again = ", the second time" if reply.outcome == "lost" else ""
                ended(job, replace(reply, reason=reply.reason + again))
            self._hand_out(waiting)

    def _hand_out(self, waiting: deque[Job]) -> None:
        for worker in [worker for worker in self._workers if worker.job is None]:
            if not waiting:
                self._take_back(waiting)
            if waiting:
                worker.give(waiting.popleft())
        while waiting and len(self._workers) < self._size:  # in place of those that died
            self._workers.append(self._home.start(self._inbox))
            self._workers[-1].give(waiting.popleft())

    def _take_back(self, waiting: deque[Job]) -> None:
        """A run whose worker still waits for room, for ever perhaps where a node is lost."""
        for worker in self._workers:
            if isinstance(worker.job, Job) and not worker.is_there:
                waiting.append(worker.job)
                self._workers.remove(worker)
                worker.end()
                return

    def _next_reply(self) -> tuple[Check | Job, Reply]:
        """Show events until a worker is done, be it by its death."""
        while True:
            worker, message = self._hear()
            if worker not in self._workers:  # its run was taken back
                continue
            if message is None:
                job, reply = worker.job, Reply("lost", reason=worker.cause_of_death())
                self._workers.remove(worker)
                worker.end()
            elif isinstance(message, UserError):  # where the worker is, nothing can be trained
                raise message
            elif isinstance(message, Reply):
                job, reply = worker.job, message
                worker.job = None
            else:
                self._show(message)
                continue
            if job is not None:
                return job, reply

    def _hear(self) -> tuple[Worker, Any]:
        """What a worker says next; where none has room, that it waits."""
        while not any(worker.is_there for worker in self._workers):
            try:
                return self._inbox.get(timeout=PATIENCE_SECONDS)
            except Empty:
                self._show(Message("waiting for room: all nodes are busy, or have left"))
        return self._inbox.get()


def home_of(on: str, setup: Setup) -> Home:
    """Where `--on` says that runs train: `local`, `ray`, or the address of a Ray cluster.

    Raises:
        UserError: it says nothing of the kind, or no cluster answers.
    """
    if on == LOCAL:
        return Local(setup)
    if on != "ray" and not ADDRESS.fullmatch(on):
        expected = "expected local, ray or the address of a Ray cluster, as ray://HOST:10001"
        raise UserError.at("--on", f'got "{on}"; {expected}.', nearest(on, (LOCAL, "ray")))
    from polytask.compare.on_ray import Cluster

    return Cluster(setup, on)

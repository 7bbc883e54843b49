"""The parent's side of parallel runs: worker processes that each train one run at a time."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from polytask.compare.machine import gpus
from polytask.compare.worker import Check, Job, Reply, Setup, Stop
from polytask.errors import UserError
from polytask.training import child
from polytask.training.progress import Show

GRACE_SECONDS = 30.0  # for a run to save its state when told to stop


class Pool:
    """Keeps worker processes alive over several runs, because importing torch takes seconds.

    A worker that dies fails its run alone and is replaced.
    """

    def __init__(self, size: int, setup: Setup, show: Show) -> None:
        self._size, self._setup, self._show = size, setup, show
        self._inbox: SimpleQueue[tuple[_Worker, Any]] = SimpleQueue()
        self._gpus = list(gpus())
        self._started = 0
        self._workers = [self._start() for _ in range(size)]

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

    def _start(self) -> _Worker:
        first = self._started * self._setup.devices
        chosen = range(first, first + self._setup.devices)
        gpus = [self._gpus[i % len(self._gpus)] for i in chosen] if self._gpus else []
        self._started += 1
        return _Worker(self._setup, self._inbox, ",".join(dict.fromkeys(gpus)) or None)

    def check(self) -> None:
        """Let a worker check the config against the data and the methods.

        Raises:
            UserError: with every fault.
        """
        self._workers[0].give(Check())
        _, reply = self._next_reply()
        if reply.outcome == "wrong_input":
            raise UserError(reply.faults)
        if reply.outcome != "done":
            raise RuntimeError(reply.traceback or reply.reason)

    def train(self, jobs: Sequence[Job], ended: Callable[[Job, Reply], None]) -> None:
        """Train all runs, in order as workers become free; `ended` hears of each.

        Raises:
            UserError: a run found the input wrong; the others are stopped.
        """
        waiting = deque(jobs)
        self._hand_out(waiting)
        while any(worker.job for worker in self._workers):
            job, reply = self._next_reply()
            if reply.outcome == "wrong_input":
                raise UserError(reply.faults)
            if isinstance(job, Job):
                ended(job, reply)
            self._hand_out(waiting)

    def _hand_out(self, waiting: deque[Job]) -> None:
        for worker in self._workers:
            if waiting and worker.job is None:
                worker.give(waiting.popleft())
        while waiting and len(self._workers) < self._size:  # in place of those that died
            self._workers.append(self._start())
            self._workers[-1].give(waiting.popleft())

    def _next_reply(self) -> tuple[Check | Job, Reply]:
        """Show events until a worker is done, be it by its death."""
        while True:
            worker, message = self._inbox.get()
            if message is None:
                job, reply = worker.job, Reply("failed", reason=worker.cause_of_death())
                self._workers.remove(worker)
                worker.end()
            elif isinstance(message, Reply):
                job, reply = worker.job, message
                worker.job = None
            else:
                self._show(message)
                continue
            if job is not None:
                return job, reply


class _Worker:
    """A process, the job it has, and a thread that hands on what it says."""

    def __init__(
        self, setup: Setup, inbox: SimpleQueue[tuple[_Worker, Any]], gpus: str | None
    ) -> None:
        self.job: Check | Job | None = None
        self._inbox = inbox
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        environment = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
        main = "polytask.compare.worker:main"
        self._process = child.start(main, self._errors, environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(setup)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(EOFError, pickle.UnpicklingError, OSError, ValueError):
            while True:
                self._inbox.put((self, pickle.load(self._process.stdout)))
        self._inbox.put((self, None))

    def give(self, job: Check | Job) -> None:
        self.job = job
        self.send(job)

    def send(self, message: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a dead worker is noticed by its silence
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(seconds, 0))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._errors.close()

    def cause_of_death(self) -> str:
        return child.cause_of_death(self._process, self._errors)

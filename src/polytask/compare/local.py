"""Workers as processes of this machine, the default."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import tempfile
import threading

from polytask.compare.machine import default_jobs, gpus
from polytask.compare.worker import Setup
from polytask.compare.workers import Inbox, Worker
from polytask.training import child


class Local:
    """This machine: its cores, its memory and, in turn, its GPUs."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._gpus = list(gpus())
        self._started = 0

    def start(self, inbox: Inbox) -> Worker:
        """Start a process, which sees as many GPUs as a run has devices."""
        first = self._started * self._setup.devices
        chosen = range(first, first + self._setup.devices)
        gpus = [self._gpus[i % len(self._gpus)] for i in chosen] if self._gpus else []
        self._started += 1
        return Process(self._setup, inbox, ",".join(dict.fromkeys(gpus)) or None)

    def size(self, runs: int, wanted: int | None) -> int:
        """As many as wanted, else as cores, memory and GPUs allow."""
        return min(runs, wanted or default_jobs(runs, self._setup.devices))

    def close(self) -> None:
        """Nothing."""


class Process(Worker):
    """A process, and a thread that hands on what it says."""

    def __init__(self, setup: Setup, inbox: Inbox, gpus: str | None) -> None:
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

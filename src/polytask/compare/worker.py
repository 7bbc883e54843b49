"""The child's side of parallel runs: a process that trains one run after another.

It reads pickled messages from standard input and writes pickled ones to what was its standard
output; both ends are this program. When its parent dies the input ends, and so does the worker.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Literal

from polytask.config import Config
from polytask.errors import Diverged, Failed, Fault, Lost, UserError
from polytask.training.progress import Progress, named


@dataclass(frozen=True)
class Setup:
    """The first message: functions by dotted path (`module:name`) and what all runs share.

    Runs are written below `folder`; those of a comparison learn from one another there. The config
    is pickled apart: reading it imports torch, and meanwhile the worker must be able to notice the
    end of its parent.
    """

    train: str
    check: str
    config: bytes
    folder: Path
    devices: int = 1
    is_comparison: bool = True


@dataclass(frozen=True)
class Check:
    """Find what is wrong with the config."""


@dataclass(frozen=True)
class Job:
    """Train a method of the config, named by its key, with a seed into a folder.

    `name` is what messages call the run; `config`, pickled, stands in the place of the setup's.
    """

    method: str
    seed: int
    folder: Path
    name: str
    config: bytes | None = None


@dataclass(frozen=True)
class Stop:
    """Save the state of the run and end."""


@dataclass(frozen=True)
class Reply:
    """What became of a job or check; `lost`: a process of the run died."""

    outcome: Literal["done", "diverged", "failed", "lost", "wrong_input", "stopped"]
    reason: str = ""
    task: str | None = None
    faults: tuple[Fault, ...] = ()
    traceback: str = ""


def main() -> None:
    """Serve until told to stop, or until the parent is gone."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the messages
    _Worker(sys.stdin.buffer, sink).serve()


class _Worker:
    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.source, self.sink = source, sink
        self.sending = threading.Lock()
        self.jobs: SimpleQueue[Check | Job | Stop] = SimpleQueue()
        self.progress: Progress | None = None
        self.is_stopping = False
        setup: Setup = pickle.load(source)
        threading.Thread(target=self.listen, daemon=True).start()
        self.comparison = setup.folder if setup.is_comparison else None
        self.devices = setup.devices
        self.config: Config = pickle.loads(setup.config)
        self.train, self.check = resolve(setup.train), resolve(setup.check)

    def listen(self) -> None:
        """Take messages while a run trains."""
        try:
            while True:
                message = pickle.load(self.source)
                if isinstance(message, Stop):
                    self.is_stopping = True
                    if self.progress is not None:
                        self.progress.stop()
                self.jobs.put(message)
        except (EOFError, OSError):
            # The parent is gone. What was saved is whole, files being replaced in one step.
            os._exit(1)

    def serve(self) -> None:
        while not isinstance(job := self.jobs.get(), Stop):
            self.send(self.attempt(job))
            gc.collect()

    def send(self, message: object) -> None:
        with self.sending:
            pickle.dump(message, self.sink)
            self.sink.flush()

    def attempt(self, job: Check | Job) -> Reply:
        try:
            if isinstance(job, Check):
                self.check(self.config, devices=self.devices)
            else:
                self.run(job)
            return Reply("done")
        except UserError as error:
            return Reply("wrong_input", faults=tuple(error.faults))
        except Diverged as error:
            return Reply("diverged", reason=str(error), task=error.task)
        except Lost as error:
            return Reply("lost", reason=str(error))
        except Failed as error:
            return Reply("failed", reason=str(error), traceback=traceback.format_exc())
        except KeyboardInterrupt:
            return Reply("stopped")
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return Reply("failed", reason=reason, traceback=traceback.format_exc())

    def run(self, job: Job) -> None:
        self.progress = Progress(named(self.send, job.name))
        if self.is_stopping:
            self.progress.stop()
        config = self.config if job.config is None else pickle.loads(job.config)
        is_apart = job.config is not None
        self.train(
            config,
            config.method(job.method),
            job.seed,
            job.folder,
            progress=self.progress,
            resume=True,
            # A run with a config of its own is none of the comparison's, but what its runs learn
            # from: one of them may be training it already.
            comparison=None if is_apart else self.comparison,
            is_teacher=is_apart and self.comparison is not None,
            devices=self.devices,
        )


def resolve(path: str) -> Callable[..., Any]:
    """The function behind `module:name`."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found

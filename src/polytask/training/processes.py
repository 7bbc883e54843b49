"""A run in several processes: the caller is the first of them and starts the others.

Under torchrun all are there already, each with the same command.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from polytask.errors import Lost, UserError
from polytask.training import child
from polytask.training.child import torchrun_size
from polytask.training.world import World, check_devices

JOIN_SECONDS = 30.0  # for a process that has done its part to end


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of a run, and where the first one listens."""

    rank: int
    size: int
    port: int


def is_follower() -> bool:
    """Whether torchrun has started this process as another than the first."""
    return torchrun_size() > 1 and os.environ["RANK"] != "0"


@contextmanager
def together(devices: int, precision: str, work: Any) -> Iterator[World]:
    """The world of a run on some devices; the other processes do the same `work`.

    Raises:
        UserError: `devices` cannot be had.
        Lost: another process died.
    """
    started = torchrun_size()
    if started > 1 and devices not in (1, started):
        raise UserError.at("--devices", f"got {devices} under a torchrun of {started} processes.")
    if max(started, devices) == 1:
        yield World.of(precision)
        return
    if started > 1:
        with _left(_of_torchrun(precision)) as world:
            yield world
        return
    check_devices(devices)
    helpers = Helpers(devices, precision, work)
    try:
        with _left(_introduced(helpers.place, precision)) as world:
            yield world
        helpers.wait()
    except (RuntimeError, OSError) as error:
        # What a collective tells is that a connection broke; why is known to the one that died.
        if (cause := helpers.cause_of_death()) is not None:
            raise Lost(f"{cause}; --resume goes on from the last saved state") from error
        raise
    finally:
        helpers.end()


@contextmanager
def _left(world: World) -> Iterator[World]:
    try:
        yield world
    finally:
        world.leave()


def _of_torchrun(precision: str) -> World:
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return World.joined(TorchElasticEnvironment(), here, precision)


def _introduced(place: Place, precision: str) -> World:
    from polytask.training.introduction import Introduction

    return World.joined(Introduction(place), place.size, precision)


class Helpers:
    """The other processes of a run, which die with this one."""

    def __init__(self, devices: int, precision: str, work: Any) -> None:
        self.place = Place(0, devices, _free_port())
        self._errors: list[Any] = []
        self._processes = []
        for rank in range(1, devices):
            self._errors.append(tempfile.TemporaryFile())  # noqa: SIM115 (`end` closes it)
            main = f"{__name__}:main"
            process = child.start(main, self._errors[-1], {})
            self._processes.append(process)
            place = Place(rank, devices, self.place.port)
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # a dead one is noticed when it should be ready
                # Pickled apart: reading it imports torch, and meanwhile the helper must be able to
                # notice the end of its parent.
                pickle.dump((place, precision, pickle.dumps(work)), process.stdin)
                process.stdin.flush()
        try:
            self._await_ready()
        except BaseException:
            self.end()
            raise

    def _await_ready(self) -> None:
        for process in self._processes:
            assert process.stdout is not None
            if not process.stdout.read(1):
                raise Lost(str(self.cause_of_death()))

    def cause_of_death(self) -> str | None:
        """Which process died of what, if one did or is about to."""
        for rank, (process, errors) in enumerate(
            zip(self._processes, self._errors, strict=True), 1
        ):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(1.0):
                    return f"device {rank} is lost: {child.cause_of_death(process, errors)}"
        return None

    def wait(self) -> None:
        """Let the helpers end, which have done their part."""
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(JOIN_SECONDS)

    def end(self) -> None:
        """End what is left of them."""
        for process, errors in zip(self._processes, self._errors, strict=True):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            errors.close()


def main() -> None:
    """What a helper runs."""
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not fill the pipe
    place, precision, work = pickle.load(source)
    threading.Thread(target=_die_with, args=(source,), daemon=True).start()
    made = pickle.loads(work)
    from polytask.training.progress import Silent
    from polytask.training.run import follow

    sink.write(b".")
    sink.flush()
    with _left(_introduced(place, precision)) as world, contextlib.suppress(KeyboardInterrupt):
        follow(made, world, Silent())
    sys.stderr.flush()
    os._exit(0)  # threads of collectives may take long to end


def _die_with(source: Any) -> None:
    """End when the first process does: it holds the other end of standard input."""
    source.read(1)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

"""Workers on the nodes of a Ray cluster: `--on ray`, `--on ray://HOST:10001`.

A node's part is an actor that keeps a worker process of its machine and hands on what is said: a
run fares there as it does here, and a node that is lost is a worker that died. Runs write their
folders themselves, so that all nodes must see the output folder, and have this very polytask.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import gethostname
from typing import Any
from uuid import uuid4

from polytask.compare.local import Local
from polytask.compare.worker import Setup
from polytask.compare.workers import Inbox, Worker
from polytask.errors import Fault, MissingExtra, UserError
from polytask.training.fingerprint import code_digest

HERE = "ray"  # the cluster that this machine belongs to


class Cluster:
    """A Ray cluster; a run takes a CPU for each of its devices, and a GPU where there are any.

    Raises:
        UserError: no cluster answers, or no node of it has as many devices.
    """

    def __init__(self, setup: Setup, address: str) -> None:
        self._setup = setup
        self._ray, self._is_mine = _connected(address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._kind = "GPU" if any(node.get("GPU") for node in nodes) else "CPU"
        room = [int(node.get(self._kind, 0)) for node in nodes]
        if setup.devices > max(room, default=0):
            expected = f"expected at most the {max(room, default=0)} {self._kind}s of a node"
            raise UserError.at("--devices", f"got {setup.devices}; {expected}.")
        self._room = sum(there // setup.devices for there in room)
        self._probe = _probe_beside(setup.folder)

    def size(self, runs: int, wanted: int | None) -> int:
        """As many as the nodes have room for."""
        return max(1, min(runs, wanted or self._room, self._room))

    def start(self, inbox: Inbox) -> Worker:
        """Start an actor on some node."""
        devices = self._setup.devices
        options = {"num_cpus": devices, "num_gpus": devices if self._kind == "GPU" else 0}
        # A thread each for what is sent to the worker, what it says, and a wait for its end.
        made = self._ray.remote(Host).options(max_concurrency=3, **options)
        return Actor(self._ray, made.remote(self._setup, self._probe, code_digest()), inbox)

    def close(self) -> None:
        """Leave the cluster."""
        self._probe.unlink(missing_ok=True)
        if self._is_mine:
            self._ray.shutdown()


def _connected(address: str) -> tuple[Any, bool]:
    """Ray, in a cluster, and whether it was not so before."""
    if not find_spec("ray"):
        raise MissingExtra("--on", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():  # of its own insides
        warnings.simplefilter("ignore")
        import ray

        if ray.is_initialized():
            return ray, False
        try:
            where = "auto" if address == HERE else address
            ray.init(where, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # of many kinds, by what does not answer
            reason = str(error).strip().partition("\n")[0]
            raise UserError.at(
                "--on",
                f"got {address}; no Ray cluster answers there ({reason}).",
                "Start one with ray start --head, or leave --on out.",
            ) from error
    return ray, True


def _probe_beside(folder: Path) -> Path:
    """A file that every node should see: nothing of the folder itself may be written yet."""
    home = next(path for path in folder.absolute().parents if path.is_dir())
    probe = home / f".polytask-{uuid4().hex}"
    probe.touch()
    return probe


class Actor(Worker):
    """An actor, and a thread that hands on what it says."""

    def __init__(self, ray: Any, actor: Any, inbox: Inbox) -> None:
        self._ray, self._actor, self._inbox = ray, actor, inbox
        self._cause = ""
        self.is_there = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        message: Any = ""
        while message is not None and not isinstance(message, UserError):
            try:
                said = self._ray.get(self._actor.said.remote())
            except self._ray.exceptions.RayError as error:
                self._cause = f"its node or actor is lost: {' '.join(str(error).split()[:40])}"
                said = [None]
            self.is_there = True
            for message in said:
                self._inbox.put((self, message))

    def send(self, message: object) -> None:
        self._actor.send.remote(message)

    def wait(self, seconds: float) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.wait.remote(seconds), timeout=max(seconds, 0))

    def end(self) -> None:
        self._ray.kill(self._actor)
        self._reader.join()

    def cause_of_death(self) -> str:
        if not self._cause:
            try:
                self._cause = self._ray.get(self._actor.cause_of_death.remote())
            except self._ray.exceptions.RayError as error:
                self._cause = f"its node is lost: {type(error).__name__}"
        return self._cause


class Host:
    """On a node: a worker process of that machine, which dies with the actor."""

    def __init__(self, setup: Setup, probe: Path, code: str) -> None:
        self.inbox: Inbox = SimpleQueue()
        self.faults = list(_faults(probe, code))
        self.worker = None if self.faults else Local(setup).start(self.inbox)

    def send(self, message: object) -> None:
        """Hand a message to the worker."""
        if self.worker is not None:
            self.worker.send(message)

    def said(self) -> list[Any]:
        """What the worker has said since, at least one thing; or why it cannot serve."""
        if self.worker is None:
            return [UserError(self.faults)]
        found = [self.inbox.get()[1]]
        with contextlib.suppress(Empty):
            while True:
                found.append(self.inbox.get_nowait()[1])
        return found

    def wait(self, seconds: float) -> None:
        """Wait for the worker's end."""
        if self.worker is not None:
            self.worker.wait(seconds)

    def cause_of_death(self) -> str:
        """Why the worker died."""
        return "" if self.worker is None else self.worker.cause_of_death()


def _faults(probe: Path, code: str) -> Iterator[Fault]:
    node = f"node {gethostname()}"
    if not probe.exists():
        problem = f"does not see {probe.parent}; expected --out on storage that all nodes have."
        yield Fault(node, problem)
    if code != code_digest():
        yield Fault(node, "has another version of polytask; expected that of this machine.")

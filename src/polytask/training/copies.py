"""A copy of the shared weights for each task: trained in its turn, or in another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.backbones.norm import BatchNorm
from polytask.batch import moved

if TYPE_CHECKING:
    from polytask.training.loop import Loop


@dataclass
class Copy:
    """A task's own shared weights and buffers, made anew each epoch, and its optimizer's state of
    those weights, which lasts."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to(self, device: torch.device) -> Copy:
        """The same copy on another device."""
        return Copy(moved(self.tensors, device), _moved(self.momentum, device))


@contextmanager
def swapped(live: Mapping[str, Tensor], other: dict[str, Tensor]) -> Iterator[None]:
    """Let the network's tensors be other ones inside; the others keep what became of them."""
    own = {name: tensor.data for name, tensor in live.items()}
    for name, tensor in live.items():
        tensor.data = other[name]
    try:
        yield
    finally:
        for name, tensor in live.items():
            tensor.data = own[name]


@contextmanager
def with_momentum(
    loop: Loop, shared: Mapping[str, nn.Parameter], own: dict[str, dict[str, Any]]
) -> Iterator[None]:
    """Let the optimizers have a copy's state of the shared weights inside."""
    states = _states(loop)
    for name, parameter in shared.items():
        if name in own:
            states[parameter][parameter] = own[name]
    try:
        yield
    finally:
        for name, parameter in shared.items():
            state = states[parameter].pop(parameter, None)
            if state:
                own[name] = state


def _states(loop: Loop) -> dict[Any, Any]:
    """The state that the optimizers keep, by parameter: that of the optimizer it belongs to."""
    return {
        p: member.state
        for member in loop.optimizers.members
        for group in member.param_groups
        for p in group["params"]
    }


@contextmanager
def alone(loop: Loop) -> Iterator[None]:
    """Let this process step on whole batches inside, as if it were the only one."""
    world = loop.world
    currents = [m.current for m in loop.method.modules() if isinstance(m, BatchNorm)]
    syncs = [current.sync for current in currents]
    loop.world = world.alone()
    for current in currents:
        current.sync = None
    try:
        yield
    finally:
        loop.world = world
        for current, sync in zip(currents, syncs, strict=True):
            current.sync = sync


def owners(loop: Loop, tasks: Sequence[str]) -> dict[str, int]:
    """The process that trains each task's copy: the pixels of their inputs spread evenly."""
    loads = [0] * loop.world.size
    found = {}

    def pixels(task: str) -> int:
        size = loop.method.setting.input_of(task)
        return size.height * size.width * loop.method.tasks[task].views

    for task in sorted(tasks, key=pixels, reverse=True):
        found[task] = loads.index(min(loads))
        loads[found[task]] += pixels(task)
    return found


class Meeting:
    """What the processes of a run tell one another of the tasks that each trained alone.

    Steps are counted, and buffers of a phase's modules (priors, teachers) are compared, since the
    processes met last: one that a single process changed is that process's; changes of several,
    which are sums over images, are added up.
    """

    def __init__(self, loop: Loop) -> None:
        self._remember(loop)

    def _remember(self, loop: Loop) -> None:
        self.updates = loop.updates
        self.buffers = {name: b.clone() for name, b in loop.modules.named_buffers()}

    def hold(
        self,
        loop: Loop,
        shared: Mapping[str, nn.Parameter],
        copies: dict[str, Copy],
        mine: Sequence[str],
    ) -> None:
        """Let every process hold what each has trained since they met last."""
        told = {
            "tasks": {task: _told(loop, shared, copies.get(task), task) for task in mine},
            "updates": loop.updates - self.updates,
            "buffers": {
                name: buffer.cpu()
                for name, buffer in loop.modules.named_buffers()
                if not torch.equal(buffer, self.buffers[name])
            },
        }
        heard = loop.world.gather(told)
        for rank, part in enumerate(heard):
            if rank != loop.world.rank:
                for task, value in part["tasks"].items():
                    _take(loop, copies, task, value)
        loop.updates = self.updates + sum(part["updates"] for part in heard)
        for name, buffer in loop.modules.named_buffers():
            before = self.buffers[name].cpu()
            changed = [part["buffers"][name] for part in heard if name in part["buffers"]]
            if len(changed) == 1:
                buffer.copy_(changed[0])
            elif changed:
                buffer.copy_(before + sum(value - before for value in changed))
        self._remember(loop)


COUNTS = ("sums", "counts", "images", "last_losses")


def _told(
    loop: Loop, shared: Mapping[str, nn.Parameter], copy: Copy | None, task: str
) -> dict[str, Any]:
    """A task's copy, what is its alone with its momentum, and its losses and images."""
    states = _states(loop)
    view = loop.method.view(task)
    own = {n: p for n, p in loop.parameters.items() if p in view and n not in shared}
    found = {
        "copy": None if copy is None else (copy.tensors, copy.momentum),
        "own": {name: p.detach() for name, p in own.items()},
        "states": {name: dict(states[p].get(p, {})) for name, p in own.items()},
        "counts": {kind: getattr(loop, kind).get(task) for kind in COUNTS},
    }
    told: dict[str, Any] = _moved(found, torch.device("cpu"))
    return told


@torch.no_grad()
def _take(loop: Loop, copies: dict[str, Copy], task: str, told: Mapping[str, Any]) -> None:
    told = _moved(told, loop.world.device)
    if told["copy"] is not None:
        copies[task] = Copy(*told["copy"]).to(loop.world.device)
    states = _states(loop)
    for name, value in told["own"].items():
        parameter = loop.parameters[name]
        parameter.copy_(value)
        if told["states"][name]:
            states[parameter][parameter] = told["states"][name]
    for kind, value in told["counts"].items():
        if value is not None:
            getattr(loop, kind)[task] = value


def _moved(value: Any, device: torch.device) -> Any:
    """The value with its tensors on a device; optimizers keep single numbers where they are."""
    if isinstance(value, Tensor):
        return value.to(device) if value.ndim else value
    if isinstance(value, dict):
        return {name: _moved(part, device) for name, part in value.items()}
    return type(value)(_moved(p, device) for p in value) if isinstance(value, tuple) else value

"""What a method costs: parameters, MACs and bytes of each task's path, and of the whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import nn

from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch, Group, Input, Target
from polytask.cost.count import Convention, Meter, Work, total
from polytask.cost.masked import saved_by_masks

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod


@runtime_checkable
class InParts(Protocol):
    """A path that tells its parts."""

    def parts(self) -> dict[str, nn.Module]:
        """Disjoint modules that together are the path: units by name, `head`, what else it has."""
        ...


@dataclass(frozen=True)
class UnitCost:
    """A unit of a task's path; `owner` is `shared`, a task, or a group's tasks (`road+sign`)."""

    unit: str
    owner: str
    params: int
    macs: int


@dataclass(frozen=True)
class TaskCost:
    """A task's path: the units of backbones it runs, and what it has beside them, its head first.

    `bytes` is what its parameters and buffers take; `macs`, `products` and `elementwise` are those
    of `Work`. `own_params` are the method's parameters that learn for this task alone: what one
    more task like it would add. `effective_params` and `effective_macs` leave out weights that
    masks hold at 0: what sparse storage and kernels would need.
    """

    params: int
    own_params: int
    macs: int
    bytes: int
    products: int
    elementwise: int
    effective_params: int
    effective_macs: int
    units: tuple[UnitCost, ...]


@dataclass(frozen=True)
class TotalCost:
    """One image through everything, and every parameter once."""

    params: int
    macs: int
    products: int
    elementwise: int


@dataclass(frozen=True)
class Cost:
    """The cost of a method."""

    total: TotalCost
    tasks: Mapping[str, TaskCost]
    convention: Convention = "plain"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, units as [unit, owner, params, macs]."""
        tasks = {}
        for name, cost in self.tasks.items():
            units = [[u.unit, u.owner, u.params, u.macs] for u in cost.units]
            tasks[name] = {**asdict(cost), "units": units}
        return {"convention": self.convention, "total": asdict(self.total), "tasks": tasks}

    def to_json(self) -> str:
        """The text of `cost.json`."""
        return json.dumps(self.as_dict(), indent=1) + "\n"


def measure(method: SharingMethod, convention: Convention = "plain") -> Cost:
    """Count one image through every task's path and through the whole method.

    No image is computed: copies of the networks run on the meta device, in eval mode.

    The total is one image given to all tasks at once: a unit that runs once for several tasks
    counts once, however batches are mixed in training. Streams of equal size get the same image; a
    module that streams of different sizes run counts once, on the stream where it costs most.

    `thop_legacy` reproduces table 4 of Lee et al. 2021, whose counter missed the pool before a
    network's own classifier (a function to it) but counted those of added exits: the first head
    that reads a copy of the backbone's last unit pools for free.
    """
    classifiers = own_classifiers(method)
    tasks = {t: _path_cost(method, t, convention, t in classifiers) for t in method.tasks}
    return Cost(_total_cost(method, convention, classifiers), tasks, convention)


def own_classifiers(method: SharingMethod) -> set[str]:
    """The first task that reads each copy of a backbone's last unit."""
    ends = {part.last for part in method.modules() if isinstance(part, StagedBackbone)}
    first: dict[tuple[str, str], str] = {}
    for task in method.tasks:
        reached = [(u, owner) for u, owner in method.units_of(task) if u.rsplit("/")[-1] in ends]
        for end in reached[:1]:
            first.setdefault(end, task)
    return set(first.values())


def count_params(module: nn.Module) -> int:
    """The parameters of a module, each once."""
    return sum(p.numel() for p in module.parameters())


def _path_cost(
    method: SharingMethod, task: str, convention: Convention, free_pool: bool
) -> TaskCost:
    path = method.path(task)
    size = sum(t.numel() * t.element_size() for t in path.state_dict().values())
    ghost = path.to("meta")
    parts = ghost.parts() if isinstance(ghost, InParts) else {}
    free = [parts["head"]] if free_pool and "head" in parts else []
    work = Meter(ghost, convention, free).run(_image(method, task))
    units = [
        UnitCost(name, owner, count_params(parts[name]), total(work, parts[name].modules()).macs)
        for name, owner in method.units_of(task)
        if name in parts
    ]
    whole, params = total(work, work), count_params(ghost)
    saved_params, saved_macs = saved_by_masks(ghost, work)
    own = method.view(task) - method.shared()
    return TaskCost(
        params,
        sum(p.numel() for p in own),
        whole.macs,
        size,
        whole.products,
        whole.elementwise,
        params - saved_params,
        whole.macs - saved_macs,
        tuple(units),
    )


def _total_cost(method: SharingMethod, convention: Convention, classifiers: set[str]) -> TotalCost:
    ghost = copy.deepcopy(method).to("meta").eval()
    meter = Meter(ghost, convention, [ghost.heads[task] for task in classifiers])
    most: dict[nn.Module, Work] = {}
    for tasks in _tasks_by_input(method):
        stream = method.setting.stream_of[tasks[0]]
        targets = {task: Target() for task in tasks}
        index = torch.empty(1, dtype=torch.long, device="meta")
        views = method.tasks[tasks[0]].views
        group = Group(_image(method, tasks[0]), index, stream, targets, views)
        for module, work in meter.run(Batch([group])).items():
            most[module] = max(work, most.get(module, Work()))
    whole = total(most, most)
    return TotalCost(count_params(method), whole.macs, whole.products, whole.elementwise)


def _tasks_by_input(method: SharingMethod) -> list[list[str]]:
    found: dict[tuple[Input, int], list[str]] = {}
    for name, task in method.tasks.items():
        found.setdefault((method.setting.input_of(name), task.views), []).append(name)
    return list(found.values())


def _image(method: SharingMethod, task: str) -> torch.Tensor:
    """One image as a task's path takes it: in all its views."""
    size, views = method.setting.input_of(task), method.tasks[task].views
    return torch.empty(views, size.channels, size.height, size.width, device="meta")

"""The expert family: backbones that belong to no task, mixed per task by gates."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.backbones.norm import bake, convert
from polytask.backbones.staged import StagedBackbone, State
from polytask.batch import Batch, Group, Value, by_sample
from polytask.sharing.method import MethodOptions, Outputs, Setting, SharingMethod
from polytask.sharing.trunk import positions, union
from polytask.tasks.task import FeatureShape

NOT_NAMES = ()


class Experts(SharingMethod):
    """Every expert sees every image that some task wants; a task reads a mixture of their maps.

    A task's *gate* takes (images [B, C, H, W], what the experts' first units see, pooled,
    [B, E·C']) to the weight of each expert for each image [B, E]. The first expert starts from the
    weights that all backbones of a seed start from, the others from weights of their own.
    """

    family = "experts"

    def __init__(self, setting: Setting, options: MethodOptions, count: int) -> None:
        super().__init__(setting, options)
        self.experts = nn.ModuleDict({f"expert{i}": self._made(i) for i in range(count)})
        first = self.expert("expert0")
        deepest = max((self.taps(task)[-1] for task in self.tasks), key=first.position)
        self.names = first.names[: first.position(deepest) + 1]
        for name in self.experts:
            self.expert(name).keep(self.names)
        inputs = set(map(setting.input_of, self.tasks))
        shapes = {i: first.shapes(i.channels, i.height, i.width) for i in inputs}
        self.shapes = {task: shapes[setting.input_of(task)] for task in self.tasks}
        self.gates = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for name, task in self.tasks.items():
            with setting.seeded("gate", name):
                self.gates[name] = self.gate(name)
            features = [FeatureShape(*self.shapes[name][unit]) for unit in self.taps(name)]
            size = setting.input_of(name)
            with setting.seeded("head", name):
                self.heads[name] = task.head(features, (size.height, size.width))
        streams = setting.norm_streams
        self.current = convert(self.experts, streams)
        convert(self, (), self.current)  # heads and gates see one stream

    def _made(self, number: int) -> StagedBackbone:
        if number == 0:
            return self.setting.new_backbone()
        with self.setting.seeded("backbone", f"expert{number}"):
            return self.setting.backbone(channels=3)

    @abstractmethod
    def gate(self, task: str) -> nn.Module:
        """Make the gate of a task."""

    def expert(self, name: str) -> StagedBackbone:
        """An expert's backbone."""
        return self.experts[name]  # type: ignore[return-value]

    def taps(self, task: str) -> list[str]:
        """The units whose mixed maps the task's head reads, the same of every expert."""
        count, first = self.tasks[task].taps, self.expert("expert0")
        return first.ends_until(first.end(self.tasks[task].is_dense))[-count:]

    def forward(self, batch: Batch) -> Outputs:
        outputs = Outputs()
        for group in batch.groups:
            tasks = [task for task in self.tasks if task in group.targets]
            if tasks:
                self._predict(group, tasks, outputs)
        return outputs

    def _predict(self, group: Group, tasks: Sequence[str], outputs: Outputs) -> None:
        rows = {task: group.targets[task].rows for task in tasks}
        held = union([rows[task] for task in tasks])
        images = taken(group.images, held, group.views)
        self.current.key = group.stream
        wanted = {unit for task in tasks for unit in self.taps(task)}
        read = [maps_of(self.expert(name), images, wanted) for name in self.experts]
        stems = pooled([maps[self.names[0]] for maps in read])
        for task in tasks:
            chosen = positions(held, rows[task])
            own = [taken(images, chosen, group.views), taken(stems, chosen, group.views)]
            weights = self.gates[task](*own)
            maps = []
            for unit in self.taps(task):
                mixed = mixture(weights, [taken(m[unit], chosen, group.views) for m in read])
                maps.append(by_sample(mixed, group.views))
            outputs.predictions[task] = self.heads[task](maps if len(maps) > 1 else maps[0])

    def units(self, task: str) -> list[str]:
        """The units that run for a task: tasks that answer per image need no decoder."""
        return self.names[: self.expert("expert0").position(self.taps(task)[-1]) + 1]

    def view(self, task: str) -> set[nn.Parameter]:
        units = [self.expert(e).unit(name) for e in self.experts for name in self.units(task)]
        own = (*units, self.gates[task], self.heads[task])
        return {parameter for part in own for parameter in part.parameters()}

    def path(self, task: str) -> nn.Module:
        made = ExpertsPath(
            {name: self.expert(name) for name in self.experts},
            self.units(task),
            self.gates[task],
            self.taps(task),
            self.heads[task],
            self.tasks[task].views,
        )
        bake(made, self.setting.stream_of[task])
        return made.eval()

    def units_of(self, task: str) -> list[tuple[str, str]]:
        runs = {name: sum(name in self.units(t) for t in self.tasks) for name in self.units(task)}
        return [
            (f"{expert}/{name}", "shared" if count > 1 or len(self.tasks) == 1 else task)
            for name, count in runs.items()
            for expert in self.experts
        ]

    def last_shared(self) -> set[nn.Parameter]:
        """The parameters of the experts' last units that two tasks or more run (GradNorm)."""
        lengths = sorted(len(self.units(task)) for task in self.tasks)
        place = self.names[lengths[-2:][0] - 1]
        last = [self.expert(name).unit(place) for name in self.experts]
        return {parameter for unit in last for parameter in unit.parameters()}


class ExpertsPath(nn.Module):
    """One task's way through all experts, its gate and its head: images [B·V, C, H, W] in."""

    def __init__(
        self,
        experts: Mapping[str, StagedBackbone],
        units: Sequence[str],
        gate: nn.Module,
        taps: Sequence[str],
        head: nn.Module,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.views = views
        self.experts = nn.ModuleDict({n: copy.deepcopy(expert) for n, expert in experts.items()})
        for expert in self._backbones():
            expert.keep(units)
        self.gate = copy.deepcopy(gate)
        self.taps = list(taps)
        self.head = copy.deepcopy(head)

    def forward(self, images: Tensor) -> Value:
        read = [maps_of(expert, images, set(self.taps)) for expert in self._backbones()]
        first = self._backbones()[0].names[0]
        weights = self.gate(images, pooled([maps[first] for maps in read]))
        by_unit = [mixture(weights, [maps[unit] for maps in read]) for unit in self.taps]
        mixed = [by_sample(maps, self.views) for maps in by_unit]
        prediction: Value = self.head(mixed if len(mixed) > 1 else mixed[0])
        return prediction

    def _backbones(self) -> list[StagedBackbone]:
        return [part for part in self.experts.values() if isinstance(part, StagedBackbone)]

    def feature(self, state: State) -> Tensor:
        """The map [B, C, H, W] of a state, of whichever expert."""
        return self._backbones()[0].feature(state)

    def parts(self) -> dict[str, nn.Module]:
        """The experts' units in running order, the gate, the head."""
        experts = dict(zip(self.experts, self._backbones(), strict=True))
        names = self._backbones()[0].names
        units = {f"{e}/{name}": b.unit(name) for name in names for e, b in experts.items()}
        return {**units, "gate": self.gate, "head": self.head}


def maps_of(expert: StagedBackbone, images: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    """The maps of the wanted units and of the first one; nothing runs beyond them."""
    state: State = images
    found: dict[str, Tensor] = {}
    for name, unit in expert:
        if found and wanted <= found.keys():
            break
        state = unit(state)
        if name in wanted or not found:
            found[name] = expert.feature(state)
    return found


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Maps [B, C, H, W] averaged over their cells, side by side [B, E·C]."""
    return torch.cat([m.mean((2, 3)) for m in maps], dim=1)


def mixture(weights: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Σ_e weights[:, e] · maps[e], of maps [B, …]."""
    columns = [column.reshape(-1, *[1] * (maps[0].ndim - 1)) for column in weights.unbind(1)]
    mixed = columns[0] * maps[0]
    for column, other in zip(columns[1:], maps[1:], strict=True):
        mixed = torch.addcmul(mixed, column, other)
    return mixed


def taken(tensor: Tensor, samples: Tensor | None, views: int) -> Tensor:
    """The rows of some samples, each of several views; all of them for `None`."""
    if samples is None:
        return tensor
    return tensor[samples] if views == 1 else by_sample(tensor, views)[samples].flatten(0, 1)

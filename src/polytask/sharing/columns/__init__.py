"""The column family: one backbone per task, links between them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytask.backbones.norm import bake, convert
from polytask.backbones.staged import StagedBackbone, State
from polytask.batch import Batch, Group
from polytask.sharing.method import MethodOptions, Outputs, Setting, SharingMethod
from polytask.sharing.trunk import positions, shell, union
from polytask.tasks.task import FeatureShape

NOT_NAMES = ()


@dataclass(frozen=True)
class Join:
    """A link after a unit: it maps the maps of `reads` to new maps of `writes` (m ≤ k)."""

    after: str
    link: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Columns(SharingMethod):
    """One backbone (column) per task; `joins` says where links mix the columns' maps.

    Columns advance unit by unit. A column runs only the units, and only on the images, that some
    task's prediction depends on, so that without links every column sees its own task's images.
    Links on weights override `unit`, which gives the module that runs as a column's unit.
    """

    family = "columns"
    Options = MethodOptions

    def __init__(self, setting: Setting, options: MethodOptions) -> None:
        super().__init__(setting, options)
        self.columns = nn.ModuleDict(
            {name: setting.new_backbone(column=name) for name in self.column_names()}
        )
        first = self.column(next(iter(self.columns)))
        self.names = first.names
        inputs = set(map(setting.input_of, self.tasks))
        shapes = {i: first.shapes(i.channels, i.height, i.width) for i in inputs}
        self.shapes = {task: shapes[setting.input_of(task)] for task in self.tasks}
        self.links = nn.ModuleDict()
        self.joins = tuple(self.make_links())
        self.heads = nn.ModuleDict()
        for name, task in self.tasks.items():
            size = setting.input_of(name)
            features = [FeatureShape(*self.shapes[name][unit]) for unit in self.taps(name)]
            with setting.seeded("head", name):
                self.heads[name] = task.head(features, (size.height, size.width))
        streams = tuple(setting.streams) if setting.norm == "per_data" else ()
        self.current = convert(self, streams)
        self._depths = {task: self._dependencies(task) for task in self.tasks}

    # What a method may change.

    def column_names(self) -> list[str]:
        """The columns; one per task by default."""
        return list(self.tasks)

    def column_of(self, task: str) -> str:
        """The column whose maps a task's head reads."""
        return task

    def make_links(self) -> list[Join]:
        """Put links into `self.links` and say where they act; none by default."""
        return []

    def taps(self, task: str) -> list[str]:
        """The units of the task's column that its head reads; the last by default."""
        count = self.tasks[task].taps
        column = self.column(self.column_of(task))
        return [column.last] if count == 1 else list(column.stages.values())[-count:]

    def unit(self, column: str, name: str) -> nn.Module:
        """The module that runs as unit `name` of a column."""
        return self.column(column).unit(name)

    # What every method shares.

    def column(self, name: str) -> StagedBackbone:
        """A column's backbone."""
        return self.columns[name]  # type: ignore[return-value]

    def _dependencies(self, task: str) -> dict[str, int]:
        """How many units of each column the task's prediction depends on."""
        depth = {self.column_of(task): max(map(self.names.index, self.taps(task))) + 1}
        for join in sorted(self.joins, key=lambda j: -self.names.index(j.after)):
            done = self.names.index(join.after) + 1
            if any(depth.get(name, 0) >= done for name in join.writes):
                for name in join.reads:
                    depth[name] = max(depth.get(name, 0), done)
        return depth

    def forward(self, batch: Batch) -> Outputs:
        outputs = Outputs()
        for group in batch.groups:
            for task, maps in self.tapped(group).items():
                one = self.tasks[task].taps == 1
                outputs.predictions[task] = self.heads[task](maps[0] if one else maps)
        return outputs

    def tapped(self, group: Group) -> dict[str, list[Tensor]]:
        """The maps each task of the group reads, for the images of its rows."""
        tasks = [task for task in self.tasks if task in group.targets]
        rows = {task: group.targets[task].rows for task in tasks}
        self.current.key = group.stream
        states: dict[str, State] = {}
        held: dict[str, Tensor | None] = {}
        found: dict[str, dict[str, Tensor]] = {task: {} for task in tasks}
        taps = {task: self.taps(task) for task in tasks}
        for at, name in enumerate(self.names):
            for column in self.columns:
                users = [t for t in tasks if self._depths[t].get(column, 0) > at]
                if not users:
                    continue
                state = states.pop(column, group.images)
                wanted = union([rows[t] for t in users])
                chosen = positions(held.get(column), wanted)
                if chosen is not None:
                    state = self.column(column).take(state, chosen)
                held[column] = wanted
                states[column] = self.unit(column, name)(state)
            for join in self.joins:
                if join.after == name and all(c in states for c in join.reads):
                    self._link(join, states, held)
            for task in tasks:
                if name in taps[task]:
                    column = self.column_of(task)
                    feature = self.column(column).feature(states[column])
                    chosen = positions(held[column], rows[task])
                    found[task][name] = feature if chosen is None else feature[chosen]
        return {task: [found[task][name] for name in taps[task]] for task in tasks}

    def _link(self, join: Join, states: dict[str, State], held: dict[str, Tensor | None]) -> None:
        wanted = union([held[c] for c in join.writes if c in states])
        maps = []
        for column in join.reads:
            chosen = positions(held[column], wanted)
            state = states[column]
            assert isinstance(state, Tensor), f"{join.after} ends inside a residual block"
            maps.append(state if chosen is None else state[chosen])
        for column, new in zip(join.writes, self.links[join.link](maps), strict=True):
            if column in states:
                states[column], held[column] = new, wanted

    def view(self, task: str) -> set[nn.Parameter]:
        depth = self._depths[task]
        modules: list[nn.Module] = [self.heads[task]]
        for column, count in depth.items():
            modules += [self.unit(column, name) for name in self.names[:count]]
        modules += [self.links[join.link] for join in self._joins_of(depth)]
        return {p for module in modules for p in module.parameters()}

    def _joins_of(self, depth: Mapping[str, int]) -> list[Join]:
        return [
            join
            for join in self.joins
            if any(depth.get(c, 0) > self.names.index(join.after) for c in join.writes)
        ]

    def path(self, task: str) -> nn.Module:
        depth = self._depths[task]
        units = {
            column: [self.path_unit(column, name) for name in self.names[:count]]
            for column, count in depth.items()
        }
        joins = self._joins_of(depth)
        made = ColumnsPath(
            self.column(self.column_of(task)),
            self.names,
            units,
            [(join, self.links[join.link]) for join in joins],
            self.column_of(task),
            self.taps(task),
            self.heads[task],
        )
        bake(made, self.setting.stream_of[task])
        return made.eval()

    def path_unit(self, column: str, name: str) -> nn.Module:
        """The unit as a path holds it: physically only what the task needs."""
        return self.unit(column, name)

    def clip_groups(self, parameters: Mapping[str, nn.Parameter]) -> list[list[nn.Parameter]]:
        """A set per column with its head, so that a column clips as it would alone; links apart."""
        sets: dict[str, list[nn.Parameter]] = {}
        column_of_head = {task: self.column_of(task) for task in self.tasks}
        for name, parameter in parameters.items():
            kind, _, rest = name.partition(".")
            own = rest.partition(".")[0]
            owner = {"columns": own, "heads": column_of_head.get(own, own)}.get(kind, kind)
            sets.setdefault(owner, []).append(parameter)
        return list(sets.values())

    def units_of(self, task: str) -> list[tuple[str, str]]:
        depth = self._depths[task]
        return [(f"{c}/{name}", c) for c, n in depth.items() for name in self.names[:n]]


class ColumnsPath(nn.Module):
    """One task's prediction from the columns it depends on: images [B, C, H, W] in."""

    def __init__(
        self,
        backbone: StagedBackbone,
        names: Sequence[str],
        units: Mapping[str, Sequence[nn.Module]],
        joins: Sequence[tuple[Join, nn.Module]],
        own: str,
        taps: Sequence[str],
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.order = list(units)
        self.columns = nn.ModuleList(
            nn.ModuleList(copy.deepcopy(unit) for unit in units[column]) for column in self.order
        )
        self.names = list(names)
        self.joins = [join for join, _ in joins]
        self.links = nn.ModuleList(copy.deepcopy(link) for _, link in joins)
        self.own = own
        self.taps = list(taps)
        self.head = copy.deepcopy(head)
        self.feature = type(backbone).feature.__get__(shell(backbone))

    def forward(self, images: Tensor) -> object:
        states: dict[str, State] = dict.fromkeys(self.order, images)
        read: list[Tensor] = []
        for at, name in enumerate(self.names):
            for column, units in zip(self.order, self.columns, strict=True):
                if at < len(units):  # type: ignore[arg-type]
                    states[column] = units[at](states[column])  # type: ignore[index]
            for join, link in zip(self.joins, self.links, strict=True):
                if join.after == name:
                    states.update(
                        zip(join.writes, link([states[c] for c in join.reads]), strict=True)
                    )
            if name in self.taps:
                read.append(self.feature(states[self.own]))
        return self.head(read[0] if len(read) == 1 else read)

    def parts(self) -> dict[str, nn.Module]:
        """Each column's units in order, the links, the head."""
        units = {
            f"{column}/{name}": unit
            for column, ran in zip(self.order, self.columns, strict=True)
            for name, unit in zip(self.names, ran, strict=False)  # type: ignore[arg-type]
        }
        links = {
            f"links/{join.link}": link for join, link in zip(self.joins, self.links, strict=True)
        }
        return {**units, **links, "head": self.head}

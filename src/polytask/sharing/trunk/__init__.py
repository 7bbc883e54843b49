"""The trunk family: one backbone, a view of it per task."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.backbones.norm import Current, bake, convert, parameters_under
from polytask.backbones.staged import StagedBackbone, State, rows_apart
from polytask.batch import Batch, Group, Value, by_sample
from polytask.errors import UserError
from polytask.sharing.filter import FeatureFilter, FilterOptions
from polytask.sharing.method import MethodOptions, Outputs, Setting, SharingMethod
from polytask.tasks.task import FeatureShape

NOT_NAMES = ("phases",)


class TrunkOptions(MethodOptions):
    """What every trunk method understands."""

    filter: bool | FilterOptions = Field(
        False, description="gate each task's features channel by channel before its head"
    )
    drop_rows: bool = Field(
        True, description="run a unit only on the images whose tasks have not left the trunk"
    )


class Trunk(SharingMethod):
    """One backbone that every task reads from; a method says how.

    A task's *route* is the list of units it runs, its *taps* the units whose maps it reads, its
    *tail* what happens to those maps before the head. Methods override `taps`, `unit` and `key`
    (what a unit is for a task, and which tasks may share one run of it) and `tail`. A unit runs
    once for all tasks whose keys are equal up to it, and only on the images of tasks still on
    their way.
    """

    family = "trunk"
    affine_per_key = False
    Options = TrunkOptions
    options: TrunkOptions

    def __init__(self, setting: Setting, options: TrunkOptions) -> None:
        super().__init__(setting, options)
        self.current = Current()
        self.backbone = self.make_backbone()
        self.prepare()
        inputs = set(map(setting.input_of, self.tasks))
        shapes = {i: self.backbone.shapes(i.channels, i.height, i.width) for i in inputs}
        self.shapes = {task: shapes[setting.input_of(task)] for task in self.tasks}
        self.tails = nn.ModuleDict()
        self.filters = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for name, task in self.tasks.items():
            with setting.seeded("tail", name):
                self.tails[name] = self.tail(name)
            features = self.features(name)
            if options.filter:
                how = options.filter if isinstance(options.filter, FilterOptions) else None
                self.filters[name] = nn.ModuleList(
                    FeatureFilter(f.channels, how or FilterOptions()) for f in features
                )
            size = setting.input_of(name)
            with setting.seeded("head", name):
                self.heads[name] = task.head(features, (size.height, size.width))
        streams = setting.norm_streams
        keys = self.norm_keys(streams)
        convert(self.backbone, keys, self.current, affine_per_stream=self.affine_per_key)
        convert(self, (), self.current)  # what is a task's own sees one stream
        self._depth = {t: max(map(self.backbone.position, self.taps(t))) + 1 for t in self.tasks}

    # What a method may change.

    def make_backbone(self) -> StagedBackbone:
        """The trunk; a method that needs finer units opens them here."""
        return self.setting.new_backbone()

    def prepare(self) -> None:
        """Make what `unit`, `taps` and `tail` rely on; the backbone exists, heads do not yet."""

    def taps(self, task: str) -> list[str]:
        """The units (exact names) whose maps the task reads, in order; by default the last one, or
        the last of the encoder for a task that answers per image."""
        return self.taps_until(task, self.backbone.end(self.tasks[task].is_dense))

    def unit(self, task: str, name: str) -> nn.Module:
        """The module that runs as unit `name` for a task."""
        del task
        return self.backbone.unit(name)

    def key(self, task: str, name: str) -> Hashable:
        """Tasks whose keys are equal for every unit up to `name` share its run."""
        del task, name
        return None

    def tail(self, task: str) -> nn.Module:
        """Make what takes the tapped maps, a list of [B, C, H, W], to the maps of the head."""
        del task
        return nn.Identity()

    def whole_tail(self, task: str) -> nn.Module:
        """The tail as it runs, with what it has in common with other tasks' tails."""
        return self.tails[task]

    def tail_shapes(self, task: str, taps: list[FeatureShape]) -> list[FeatureShape]:
        """The maps that `tail` gives for those it is fed."""
        del task
        return taps

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        """The keys under which batch norms keep statistics; `norm_key` says which one counts."""
        return streams

    def norm_key(self, task: str, stream: str, unit: str) -> str:
        """The statistics that a unit (or `tail`: what follows the trunk) uses for a task."""
        del task, unit
        return stream

    # What every method shares.

    def taps_until(self, task: str, last: str, option: str = "") -> list[str]:
        """The maps of a head whose way ends at unit `last`: before it, ends of stages.

        `option` is the one that names the unit, as errors say it.

        Raises:
            UserError: there are not as many as the head reads.
        """
        count, ends = self.tasks[task].taps, self.backbone.ends_until(last)
        if len(ends) < count:
            raise UserError.at(
                option,
                f"{task} ({self.tasks[task].kind}) reads the maps of {count} stages; up to {last} "
                f"there is only {len(ends)}.",
                "Choose a later one.",
            )
        return ends[-count:]

    def route(self, task: str) -> list[str]:
        """The names of the units the task runs."""
        return self.backbone.names[: self._depth[task]]

    def features(self, task: str) -> list[FeatureShape]:
        """The maps the task's head reads."""
        taps = [FeatureShape(*self.shapes[task][name]) for name in self.taps(task)]
        return self.tail_shapes(task, taps)

    def filters_of(self, task: str) -> nn.Module | None:
        """The filters on the task's maps, if it has any."""
        return dict(self.filters.items()).get(task)

    def forward(self, batch: Batch) -> Outputs:
        outputs = Outputs()
        for group in batch.groups:
            for task, maps in self.tapped(group).items():
                outputs.features[task] = maps[-1]
                self.current.key = self.norm_key(task, group.stream, "tail")
                outputs.predictions[task] = self.finish(task, maps)
        return outputs

    def tapped(self, group: Group) -> dict[str, list[Tensor]]:
        """The maps each task of the group taps, for the images of its rows."""
        return _Walk(self, group).run()

    def finish(self, task: str, maps: list[Tensor]) -> Value:
        """Tail, filter and head on the tapped maps of one task."""
        maps = gated(self.whole_tail(task)(maps), self.filters_of(task))
        found: Value = self.heads[task](maps[0] if self.tasks[task].taps == 1 else maps)
        return found

    def view(self, task: str) -> set[nn.Parameter]:
        key = partial(self.norm_key, task, self.setting.stream_of[task])
        parts = [(self.unit(task, name), key(name)) for name in self.route(task)]
        own = (self.whole_tail(task), self.filters_of(task), self.heads[task])
        parts += [(part, key("tail")) for part in own if part is not None]
        return {p for part, used in parts for p in parameters_under(part, used)}

    def path(self, task: str) -> nn.Module:
        route = self.route(task)
        made = TrunkPath(
            self.backbone,
            [(name, self.path_unit(task, name)) for name in route],
            self.taps(task),
            self.whole_tail(task),
            self.filters_of(task),
            self.heads[task],
            self.tasks[task].taps,
            self.tasks[task].views,
        )
        key = partial(self.norm_key, task, self.setting.stream_of[task])
        for name, unit in zip(route, made.units, strict=True):
            bake(unit, key(name))
        bake(made, key("tail"))
        return made.eval()

    def path_unit(self, task: str, name: str) -> nn.Module:
        """The unit as the task's path holds it: physically only what the task needs."""
        return self.unit(task, name)

    def units_of(self, task: str) -> list[tuple[str, str]]:
        alone = {
            name: [t for t in self.tasks if name in self.route(t) and self._same(task, t, name)]
            for name in self.route(task)
        }
        return [(n, "shared" if len(users) > 1 else task) for n, users in alone.items()]

    def _same(self, one: str, other: str, name: str) -> bool:
        return self.unit(one, name) is self.unit(other, name)

    def last_shared(self) -> set[nn.Parameter]:
        """The parameters of the deepest unit that two tasks or more run (GradNorm)."""
        shared = self.shared()
        for name in reversed(self.backbone.names):
            unit = {p for t in self.tasks for p in self.unit(t, name).parameters()} & shared
            if unit:
                return unit
        return set()


class TrunkPath(nn.Module):
    """One task's way through a trunk, alone: images [B·V, C, H, W] to its prediction."""

    def __init__(
        self,
        backbone: StagedBackbone,
        units: list[tuple[str, nn.Module]],
        taps: list[str],
        tail: nn.Module,
        filters: nn.Module | None,
        head: nn.Module,
        head_taps: int,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(copy.deepcopy(unit) for _, unit in units)
        self.names = [name for name, _ in units]
        self.taps = taps
        self.tail = copy.deepcopy(tail)
        self.filters = copy.deepcopy(filters)
        self.head = copy.deepcopy(head)
        self.head_taps = head_taps
        self.views = views
        self.feature = type(backbone).feature.__get__(shell(backbone))

    def forward(self, images: Tensor) -> Value:
        state: State = images
        read: dict[str, Tensor] = {}
        for name, unit in zip(self.names, self.units, strict=True):
            state = unit(state)
            if name in self.taps:
                read[name] = by_sample(self.feature(state), self.views)
        maps = gated(self.tail([read[name] for name in self.taps]), self.filters)
        found: Value = self.head(maps[0] if self.head_taps == 1 else maps)
        return found

    def parts(self) -> dict[str, nn.Module]:
        """The units by name, in order, then what the task has of its own."""
        own = {"tail": self.tail, "filter": self.filters, "head": self.head}
        return {
            **dict(zip(self.names, self.units, strict=True)),
            **{name: part for name, part in own.items() if part is not None},
        }


def gated(maps: list[Tensor], filters: nn.Module | None) -> list[Tensor]:
    """Each map through its filter, where there are any."""
    if filters is None:
        return maps
    return [gate(m) for gate, m in zip(filters.children(), maps, strict=True)]


def shell(backbone: StagedBackbone) -> StagedBackbone:
    """The backbone without its units: all that `feature` needs of it."""
    shell = copy.copy(backbone)
    shell._modules = {}
    return shell


@dataclass
class _Walk:
    """One pass of a group over the tree of routes: tasks part where their keys do."""

    method: Trunk
    group: Group
    found: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def run(self) -> dict[str, list[Tensor]]:
        tasks = [t for t in self.method.tasks if t in self.group.targets]
        self.found = {task: {} for task in tasks}
        self.rows = {task: self.group.targets[task].rows for task in tasks}
        self.taps = {task: self.method.taps(task) for task in tasks}
        self._part(self.group.images, None, [tasks] if tasks else [], 0)
        return {t: [self.found[t][name] for name in self.taps[t]] for t in tasks}

    def _part(self, state: State, held: Tensor | None, parts: list[list[str]], at: int) -> None:
        """Go on from unit `at` with every part of the tasks by itself, on its own images."""
        wanted = [self._wanted(held, part) for part in parts]
        states = self._taken(state, held, wanted)
        for part, rows, own in zip(parts, wanted, states, strict=True):
            self._advance(own, held if rows is None else rows, part, at)

    def _advance(self, state: State, held: Tensor | None, tasks: list[str], at: int) -> None:
        method, backbone = self.method, self.method.backbone
        while tasks:
            name = backbone.names[at]
            by_key: dict[Hashable, list[str]] = {}
            for task in tasks:
                by_key.setdefault(method.key(task, name), []).append(task)
            if len(by_key) > 1:
                self._part(state, held, list(by_key.values()), at)
                return
            method.current.key = method.norm_key(tasks[0], self.group.stream, name)
            state = method.unit(tasks[0], name)(state)
            at += 1
            reading = [task for task in tasks if name in self.taps[task]]
            staying = [task for task in tasks if method._depth[task] > at]
            rest = [self._wanted(held, staying)] if 0 < len(staying) < len(tasks) else []
            reads = [self.rows[task] for task in reading]
            feature = backbone.feature(state)
            if feature is state:  # all that is wanted of it at once
                taken = self._taken(state, held, reads + rest)
            else:
                taken = self._taken(feature, held, reads) + self._taken(state, held, rest)
            for task, own in zip(reading, taken, strict=False):
                assert isinstance(own, Tensor)
                self.found[task][name] = by_sample(own, self.group.views)
            if rest:
                state, held = taken[-1], held if rest[0] is None else rest[0]
            tasks = staying

    def _wanted(self, held: Tensor | None, tasks: list[str]) -> Tensor | None:
        """The images that tasks still want; `None` for all that are held, dropped or not."""
        if not self.method.options.drop_rows:
            return None
        rows = union([self.rows[task] for task in tasks])
        return None if rows is None or len(rows) == self._count(held) else rows

    def _taken(
        self, state: State, held: Tensor | None, wanted: Sequence[Tensor | None]
    ) -> list[State]:
        """The state of some of the images that are held, for each of its readers."""
        places = [self._place(held, rows) for rows in wanted]
        if isinstance(state, Tensor):
            return list(rows_apart(state, places))
        take = self.method.backbone.take
        return [state if place is None else take(state, place) for place in places]

    def _place(self, held: Tensor | None, rows: Tensor | None) -> Tensor | None:
        """Where some images stand among those that are held; `None` for all of them."""
        if rows is None or len(rows) == self._count(held):
            return None
        return self._images(rows if held is None else torch.searchsorted(held, rows))

    def _count(self, held: Tensor | None) -> int:
        return len(self.group) if held is None else len(held)

    def _images(self, samples: Tensor) -> Tensor:
        views = self.group.views
        if views == 1:
            return samples
        return (samples[:, None] * views + torch.arange(views, device=samples.device)).flatten()


def union(rows: list[Tensor | None]) -> Tensor | None:
    """The ascending union of row lists; `None` stands for all rows."""
    if any(r is None for r in rows):
        return None
    known = [r for r in rows if r is not None]
    return known[0] if len(known) == 1 else torch.unique(torch.cat(known), sorted=True)


def positions(held: Tensor | None, rows: Tensor | None) -> Tensor | None:
    """Where `rows` stand among the `held` ones (both ascending); `None` for all of them."""
    if rows is None or held is rows:
        return None
    if held is None:
        return rows
    if len(held) == len(rows):
        return None
    return torch.searchsorted(held, rows)

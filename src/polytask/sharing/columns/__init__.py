"""The column family: one backbone per task, links between them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from polytask.backbones.norm import bake, convert
from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch, Value
from polytask.sharing.columns.link import COMMON, Join, Link
from polytask.sharing.columns.path import ColumnsPath, Step
from polytask.sharing.columns.walk import Feed as Feed
from polytask.sharing.columns.walk import Walk
from polytask.sharing.method import MethodOptions, Outputs, Setting, SharingMethod
from polytask.sharing.trunk import shell
from polytask.tasks.task import FeatureShape

NOT_NAMES = ("kernel_bank", "kernel_layers", "kernel_mixture", "link", "linked", "path", "walk")


class Columns(SharingMethod):
    """One backbone (column) per task; `joins` says where links mix the columns' maps.

    Columns advance unit by unit. A column runs only the units, and only on the images, that some
    task's prediction depends on, and a link gives only the maps that are read after it: without
    links every column sees its own task's images. A link on weights overrides `path_unit`.
    """

    family = "columns"
    Options = MethodOptions
    frame: StagedBackbone

    def __init__(self, setting: Setting, options: MethodOptions) -> None:
        super().__init__(setting, options)
        self.columns = nn.ModuleDict(
            {
                name: setting.new_backbone(column=name, channels=self.channels_of(name))
                for name in self.column_names()
            }
        )
        first = self.column(next(iter(self.columns)))
        # What is known of a column without its units; no module, for it has no part to run.
        object.__setattr__(self, "frame", copy.copy(shell(first)))
        self.names = list(first.names)
        self.tied = self.tied_units()
        self.common = copy.deepcopy(first) if self.tied else None
        self.shapes = self._shapes()
        self.links = nn.ModuleDict()
        self.joins = tuple(self.make_links())
        self.tails = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for name, task in self.tasks.items():
            with setting.seeded("tail", name):
                tail = self.tail(name)
            if tail is not None:
                self.tails[name] = tail
            size = setting.input_of(name)
            with setting.seeded("head", name):
                self.heads[name] = task.head(self.features(name), (size.height, size.width))
        streams = setting.norm_streams
        self.current = convert(self, self.norm_keys(streams))
        self.steps = {task: tuple(self._steps(task)) for task in self.tasks}
        self._keep_what_runs()

    # What a method may change.

    def column_names(self) -> list[str]:
        """The columns; one per task by default."""
        return list(self.tasks)

    def column_of(self, task: str) -> str:
        """The column whose maps a task's head reads."""
        return task

    def tied_units(self) -> list[str]:
        """The leading units that all columns have in common; none by default."""
        return []

    def make_links(self) -> list[Join]:
        """Put links into `self.links` and say where they act; none by default."""
        return []

    def taps(self, task: str) -> list[str]:
        """The units of the task's column whose maps it reads, in order; by default the last, or the
        last of the encoder for a task that answers per image."""
        end = self.frame.end(self.tasks[task].is_dense)
        return self.frame.ends_until(end)[-self.tasks[task].taps :]

    def tail(self, task: str) -> nn.Module | None:
        """List of tapped maps [B, C, H, W] → list of maps for the head, or `None` for the same."""
        del task
        return None

    def features(self, task: str) -> list[FeatureShape]:
        """The maps the task's head reads."""
        return [FeatureShape(*self.shapes[task][unit]) for unit in self.taps(task)]

    def feeds(self, batch: Batch) -> Iterator[Feed]:
        """What goes through the columns together: every column sees a group's images by default."""
        for group in batch.groups:
            yield Feed(
                dict.fromkeys(self.columns, group.images),
                group.stream,
                {task: group.targets[task].rows for task in self.tasks if task in group.targets},
                group.views,
            )

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        """The streams whose batch-norm statistics are kept apart."""
        return streams

    def path_unit(self, column: str, name: str) -> nn.Module:
        """The unit as a path holds it: physically only what the task needs."""
        return self.column(column).unit(name)

    # What every method shares.

    def column(self, name: str) -> StagedBackbone:
        """A column's backbone."""
        if name == COMMON:
            assert self.common is not None
            return self.common
        return self.columns[name]  # type: ignore[return-value]

    def _keep_what_runs(self) -> None:
        """Let go of units that no prediction depends on: a decoder in a column of classes."""
        used: dict[str, set[str]] = {}
        for step in (step for steps in self.steps.values() for step in steps):
            for column in step.runs:
                used.setdefault(column, set()).add(step.name)
        for column in (*self.columns, *([COMMON] if self.tied else [])):
            self.column(column).keep(used.get(column, set()))

    def channels_of(self, column: str) -> int:
        """The channels of the images that a column reads."""
        inputs = [self.setting.input_of(t) for t in self.tasks if self.column_of(t) == column]
        return inputs[0].channels if inputs else 3

    def _shapes(self) -> dict[str, dict[str, tuple[int, int, int]]]:
        known = {}
        for task in self.tasks:
            size = self.setting.input_of(task)
            if size not in known:
                column = self.column(self.column_of(task))
                known[size] = column.shapes(size.channels, size.height, size.width)
        return {task: known[self.setting.input_of(task)] for task in self.tasks}

    def _steps(self, task: str) -> list[Step]:
        """What the task's prediction depends on, told from its head back to the images."""
        steps: list[Step] = []
        own, taps = self.column_of(task), self.taps(task)
        read: set[str] = set()
        for name in reversed(self.names):
            after = read | {own} if name in taps else read
            joins = [
                (join, tuple(i for i, column in enumerate(join.writes) if column in after))
                for join in self.joins
                if join.after == name and after.intersection(join.writes)
            ]
            written = {join.writes[i] for join, outputs in joins for i in outputs}
            read = (after - written) | {column for join, _ in joins for column in join.reads}
            runs = tuple(column for column in self.columns if column in read)
            if name in self.tied and runs:
                runs = (COMMON,)
            steps.append(Step(name, runs, tuple(joins)))
        return [step for step in reversed(steps) if step.runs]

    def forward(self, batch: Batch) -> Outputs:
        outputs = Outputs()
        for feed in self.feeds(batch):
            for task, maps in Walk(self, feed).run().items():
                outputs.predictions[task] = self.finish(task, maps)
        return outputs

    def finish(self, task: str, maps: list[Tensor]) -> Value:
        """Tail and head on the tapped maps of one task."""
        if task in self.tails:
            maps = self.tails[task](maps)
        prediction: Value = self.heads[task](maps[0] if self.tasks[task].taps == 1 else maps)
        return prediction

    def view(self, task: str) -> set[nn.Parameter]:
        modules: list[nn.Module] = [self.heads[task]]
        if task in self.tails:
            modules.append(self.tails[task])
        view: set[nn.Parameter] = set()
        for step in self.steps[task]:
            modules += [self.column(column).unit(step.name) for column in step.runs]
            for join, outputs in step.joins:
                view |= self.link(join).serving(outputs)
        return view | {p for module in modules for p in module.parameters()}

    def link(self, join: Join) -> Link:
        """The module of a join."""
        return self.links[join.link]  # type: ignore[return-value]

    def path(self, task: str) -> nn.Module:
        own = self.column_of(task)
        places = [(column, step.name) for step in self.steps[task] for column in step.runs]
        made = ColumnsPath(
            self.steps[task],
            {place: self.path_unit(*place) for place in places},
            self.links,  # type: ignore[arg-type]
            self.frame,
            own,
            self.taps(task),
            dict(self.tails.items()).get(task),
            self.heads[task],
            self.tasks[task].taps,
            self.tasks[task].views,
        )
        bake(made, self.setting.stream_of[task])
        return made.eval()

    def clip_groups(self, parameters: Mapping[str, nn.Parameter]) -> list[list[nn.Parameter]]:
        """A set per column with its head, so that a column clips as it would alone; links apart."""
        sets: dict[str, list[nn.Parameter]] = {}
        column_of_task = {task: self.column_of(task) for task in self.tasks}
        for name, parameter in parameters.items():
            kind, _, rest = name.partition(".")
            own = rest.partition(".")[0]
            by_task = column_of_task.get(own, own)
            owner = {"columns": own, "heads": by_task, "tails": by_task}.get(kind, kind)
            sets.setdefault(owner, []).append(parameter)
        return list(sets.values())

    def units_of(self, task: str) -> list[tuple[str, str]]:
        units: dict[str, str] = {}
        for step in self.steps[task]:
            for column in step.runs:
                units[f"{column}/{step.name}"] = "shared" if column == COMMON else column
            units |= {f"links/{join.link}": "shared" for join, _ in step.joins}
        return list(units.items())

    def last_shared(self) -> set[nn.Parameter]:
        """The parameters of the deepest units and links that two tasks or more run (GradNorm)."""
        shared = self.shared()
        steps = [step for steps in self.steps.values() for step in steps]
        for name in reversed(self.names):
            runs = {column for step in steps if step.name == name for column in step.runs}
            modules: list[nn.Module] = [self.column(column).unit(name) for column in runs]
            modules += [self.links[join.link] for join in self.joins if join.after == name]
            found = {p for module in modules for p in module.parameters()} & shared
            if found:
                return found
        return set()

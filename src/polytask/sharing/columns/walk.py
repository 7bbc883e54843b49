"""One pass of images through the columns, unit by unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polytask.backbones.staged import State, rows_of
from polytask.batch import by_sample
from polytask.sharing.columns.link import COMMON, Join
from polytask.sharing.columns.path import Step
from polytask.sharing.trunk import positions, union

if TYPE_CHECKING:
    from polytask.sharing.columns import Columns


@dataclass
class Feed:
    """One pass through the columns.

    `images` says what each column reads, `stream` whose batch-norm statistics count, `rows` which
    of the samples each task predicts (ascending, `None` for all), `views` how many images make a
    sample.
    """

    images: Mapping[str, Tensor]
    stream: str
    rows: Mapping[str, Tensor | None]
    views: int = 1


class Walk:
    """One pass of a feed through the columns, unit by unit."""

    def __init__(self, method: Columns, feed: Feed) -> None:
        self.method, self.feed = method, feed
        self.states: dict[str, State] = {}
        self.held: dict[str, Tensor | None] = {}
        self.unions: dict[tuple[str, ...], Tensor | None] = {}

    def run(self) -> dict[str, list[Tensor]]:
        """The maps each task taps, for its rows."""
        method, tasks = self.method, list(self.feed.rows)
        taps = {task: method.taps(task) for task in tasks}
        found: dict[str, dict[str, Tensor]] = {task: {} for task in tasks}
        method.current.key = self.feed.stream
        for at, name in enumerate(method.names):
            steps = {t: method.steps[t][at] for t in tasks if at < len(method.steps[t])}
            for column in (COMMON, *method.columns):
                users = tuple(task for task, step in steps.items() if column in step.runs)
                if users:
                    self._advance(column, name, users)
            self._link({task: step for task, step in steps.items() if step.joins})
            for task in steps:
                if name in taps[task]:
                    found[task][name] = self._read(method.column_of(task), task)
        return {task: [found[task][name] for name in taps[task]] for task in tasks}

    def _advance(self, column: str, name: str, users: tuple[str, ...]) -> None:
        wanted = self._wanted(users)
        source = self._source(column)
        if source not in self.states:
            images = self.feed.images
            self.states[source] = (
                next(iter(images.values())) if source == COMMON else images[source]
            )
            self.held[source] = None
        unit = self.method.column(column).unit(name)
        self.states[column] = unit(self._taken(source, wanted))
        self.held[column] = wanted

    def _source(self, column: str) -> str:
        """Where a column's map is: before its own first unit, with the units that are tied."""
        return column if column in self.states or not self.method.tied else COMMON

    def _link(self, steps: Mapping[str, Step]) -> None:
        """All links after a unit read the maps that the columns have before any of them."""
        users: dict[Join, dict[str, tuple[int, ...]]] = {}
        for task, step in steps.items():
            for join, reads in step.joins:
                users.setdefault(join, {})[task] = reads
        written: dict[str, tuple[State, Tensor | None]] = {}
        for join, by_task in users.items():
            wanted = self._wanted(tuple(by_task))
            outputs = sorted({output for reads in by_task.values() for output in reads})
            maps = [self._feature(column, wanted) for column in join.reads]
            made = self.method.link(join)(maps, outputs)
            for output, new in zip(outputs, made, strict=True):
                column = join.writes[output]
                like = self._source(column if column in self.states else join.reads[0])
                state = self._taken(like, wanted)
                written[column] = self.method.column(like).replace(state, new), wanted
        for column, (state, held) in written.items():
            self.states[column], self.held[column] = state, held

    def _taken(self, column: str, wanted: Tensor | None) -> State:
        state, chosen = self.states[column], positions(self.held[column], wanted)
        if chosen is None:
            return state
        return self.method.column(column).take(state, self._images(chosen))

    def _feature(self, column: str, wanted: Tensor | None) -> Tensor:
        column = self._source(column)
        feature = self.method.column(column).feature(self.states[column])
        chosen = positions(self.held[column], wanted)
        return feature if chosen is None else rows_of(feature, self._images(chosen))

    def _read(self, column: str, task: str) -> Tensor:
        return by_sample(self._feature(column, self.feed.rows[task]), self.feed.views)

    def _wanted(self, users: tuple[str, ...]) -> Tensor | None:
        if users not in self.unions:
            self.unions[users] = union([self.feed.rows[task] for task in users])
        return self.unions[users]

    def _images(self, samples: Tensor) -> Tensor:
        views = self.feed.views
        if views == 1:
            return samples
        return (samples[:, None] * views + torch.arange(views, device=samples.device)).flatten()

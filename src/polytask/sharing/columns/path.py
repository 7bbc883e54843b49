"""One task's way through the columns, alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from polytask.backbones.staged import StagedBackbone, State
from polytask.batch import Value, by_sample
from polytask.sharing.columns.link import COMMON, Join, Link
from polytask.sharing.trunk import shell


@dataclass(frozen=True)
class Step:
    """What a task needs at a unit: columns that run it, then joins and the outputs it reads."""

    name: str
    runs: tuple[str, ...]
    joins: tuple[tuple[Join, tuple[int, ...]], ...]


class ColumnsPath(nn.Module):
    """One task's prediction from the columns it depends on: images [B·V, C, H, W] in."""

    def __init__(
        self,
        steps: Sequence[Step],
        units: Mapping[tuple[str, str], nn.Module],
        links: Mapping[str, Link],
        backbone: StagedBackbone,
        own: str,
        taps: Sequence[str],
        tail: nn.Module | None,
        head: nn.Module,
        head_taps: int,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.steps = list(steps)
        self.units = nn.ModuleDict({_key(*at): copy.deepcopy(unit) for at, unit in units.items()})
        self.outputs: dict[str, list[int]] = {}
        for join, outputs in [join for step in self.steps for join in step.joins]:
            known = self.outputs.setdefault(join.link, [])
            known += [output for output in outputs if output not in known]
        self.links = nn.ModuleDict({n: links[n].narrowed(o) for n, o in self.outputs.items()})
        self.own = own
        self.taps = list(taps)
        self.tail = copy.deepcopy(tail)
        self.head = copy.deepcopy(head)
        self.head_taps = head_taps
        self.views = views
        plain = shell(backbone)
        self.feature = type(backbone).feature.__get__(plain)
        self.replace = type(backbone).replace.__get__(plain)

    def forward(self, images: Tensor) -> Value:
        read: dict[str, Tensor] = {}
        for name, states in self.walk(images):
            if name in self.taps:
                feature = self.feature(_state(states, self.own))
                read[name] = by_sample(feature, self.views)
        maps = [read[name] for name in self.taps]
        if self.tail is not None:
            maps = self.tail(maps)
        prediction: Value = self.head(maps[0] if self.head_taps == 1 else maps)
        return prediction

    def walk(self, images: Tensor) -> Iterator[tuple[str, dict[str, State]]]:
        """The states of all columns after every unit and the links behind it."""
        states: dict[str, State] = {}
        for step in self.steps:
            for column in step.runs:
                state = _state(states, column, images)
                states[column] = self.units[_key(column, step.name)](state)
            states |= self._linked(step, states)
            yield step.name, states

    def _linked(self, step: Step, states: Mapping[str, State]) -> dict[str, State]:
        written: dict[str, State] = {}
        for join, outputs in step.joins:
            maps = [self.feature(_state(states, column)) for column in join.reads]
            kept = [self.outputs[join.link].index(output) for output in outputs]
            for output, new in zip(outputs, self.links[join.link](maps, kept), strict=True):
                column = join.writes[output]
                like = column if column in states else join.reads[0]
                written[column] = self.replace(_state(states, like), new)
        return written

    def parts(self) -> dict[str, nn.Module]:
        """The units and links in running order, then what the task has of its own."""
        parts: dict[str, nn.Module] = {}
        for step in self.steps:
            for column in step.runs:
                parts[f"{column}/{step.name}"] = self.units[_key(column, step.name)]
            for join, _ in step.joins:
                parts[f"links/{join.link}"] = self.links[join.link]
        if self.tail is not None:
            parts["tail"] = self.tail
        return {**parts, "head": self.head}


def _state(states: Mapping[str, State], column: str, images: Tensor | None = None) -> State:
    """A column's state; before its own first unit, that of the units which are tied."""
    state = states.get(column, states.get(COMMON, images))
    assert state is not None
    return state


def _key(column: str, name: str) -> str:
    """A unit's name as a part of a module's, which must hold no dot."""
    return f"{column}/{name.replace('.', '_')}"

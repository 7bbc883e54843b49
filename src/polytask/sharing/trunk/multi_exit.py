"""Multi-exit sharing: each task leaves the trunk at its own depth, optionally with a filter.

Source: Lee et al., "Multi-Task Learning with Task-Specific Feature Filtering in Low-Data
Condition", Electronics 2021, 10, 2691, §3.2-3.3.

Differs from the paper: exits may be placed at any unit, not only at the end of a stage.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any, Literal

from pydantic import Field
from torch import nn

from polytask.errors import UserError, one_of, unknown
from polytask.sharing.method import MethodOptions, Setting
from polytask.sharing.trunk import Trunk, TrunkOptions


class MultiExitOptions(TrunkOptions):
    """Where tasks leave and what they find there."""

    exits: Literal["by_class_count"] | dict[str, str] = Field(
        "by_class_count",
        description="unit or stage per task, the last for tasks not named; by_class_count: "
        "fewer classes leave earlier, and masks at the end of a decoder",
    )
    heads: Literal["minimal", "big"] = Field(
        "minimal", description="big: a private copy of the trunk's rest before the head"
    )


class MultiExit(Trunk):
    """A task runs the trunk up to its exit; with big heads it goes on in units of its own."""

    Options = MultiExitOptions
    options: MultiExitOptions

    @classmethod
    def search_space(cls, setting: Setting, options: MethodOptions) -> dict[str, list[Any]]:
        backbone = setting.new_backbone()
        return {
            f"exits.{name}": list(backbone.exits(task.is_dense))[task.taps - 1 :]
            for name, task in setting.tasks.items()
        }

    def prepare(self) -> None:
        exits = self.options.exits
        if exits == "by_class_count":
            self.exits = self._placed()
        else:
            self.exits = self._named_exits(exits)
        self.own = nn.ModuleDict()
        if self.options.heads == "big":
            for task in self.tasks:
                with self.setting.seeded("big head", task):
                    fresh = self.setting.backbone(channels=self.setting.input_of(task).channels)
                after = self.backbone.position(self.exits[task]) + 1
                self.own[task] = nn.ModuleDict(
                    {
                        name.replace(".", "_"): copy.deepcopy(fresh.unit(name))
                        for name in self.backbone.names[after:]
                    }
                )

    def _placed(self) -> dict[str, str]:
        """By class counts; where a decoder follows, tasks for every pixel run to its end."""
        backbone = self.backbone
        ends = {n: backbone.last for n, t in self.tasks.items() if backbone.decodes and t.is_dense}
        counts = {name: len(t.classes) for name, t in self.tasks.items() if name not in ends}
        exits = backbone.exits(is_dense=False)
        units = list(exits.values())
        placed = place_by_class_count(counts, exits)
        for name, unit in placed.items():  # a head of several maps leaves no earlier
            placed[name] = units[max(units.index(unit), self.tasks[name].taps - 1)]
        return {**placed, **ends}

    def _named_exits(self, exits: dict[str, str]) -> dict[str, str]:
        for task in exits:
            if task not in self.tasks:
                raise UserError(unknown(f"exits.{task}", "task", task, self.tasks))
        named = {t: self.backbone.resolve(unit, f"exits.{t}") for t, unit in exits.items()}
        return {
            name: named.get(name) or self.backbone.end(task.is_dense)
            for name, task in self.tasks.items()
        }

    def taps(self, task: str) -> list[str]:
        if self.options.heads == "big":
            return super().taps(task)
        return self.taps_until(task, self.exits[task], f"exits.{task}")

    def _is_own(self, task: str, name: str) -> bool:
        return name.replace(".", "_") in self.own[task] if task in self.own else False  # type: ignore[operator]

    def unit(self, task: str, name: str) -> nn.Module:
        if self._is_own(task, name):
            own: nn.Module = self.own[task][name.replace(".", "_")]  # type: ignore[index]
            return own
        return super().unit(task, name)

    def key(self, task: str, name: str) -> Hashable:
        return task if self._is_own(task, name) else None


def place_by_class_count(
    counts: dict[str, int], stages: dict[str, str] | Sequence[str]
) -> dict[str, str]:
    """Tasks in ascending order of classes on the last stages, in order; ties keep the input order.

    Raises:
        UserError: there are more tasks than stages.
    """
    units = list(stages.values()) if isinstance(stages, dict) else list(stages)
    if len(counts) > len(units):
        raise UserError.at(
            "exits",
            f"by_class_count needs a stage for each of {len(counts)} tasks; the backbone has "
            f"{one_of(stages)}",
            "Name the exits, tasks may share one.",
        )
    order = sorted(counts, key=counts.__getitem__)
    return dict(zip(order, units[len(units) - len(order) :], strict=True))

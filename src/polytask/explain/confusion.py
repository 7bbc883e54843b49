"""Confusion matrices: how often each class was taken for each, over images or pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from polytask.batch import Group, Target
from polytask.tasks.task import Task

FILE = "confusion.json"


class Confusion:
    """Watches the scoring of a split and counts, for tasks that choose one class a case."""

    def __init__(self, tasks: Mapping[str, Task], split: str) -> None:
        self.tasks, self.split = tasks, split
        self.counts: dict[str, Tensor] = {}

    def see(
        self, name: str, group: Group, target: Target, prediction: Any, loss: Tensor, weight: Tensor
    ) -> None:
        """Count a batch."""
        del group, loss, weight
        assert target.value is not None
        found = self.tasks[name].confusion(prediction, target.value)
        if found is not None:
            self.counts[name] = found + self.counts.get(name, 0)

    def write(self, folder: Path) -> None:
        """Write `confusion.json` into a run's folder of plots: rows are true classes."""
        from polytask.training.checkpoint import write_json

        tasks = {
            name: {"classes": self.tasks[name].classes, "counts": counts.tolist()}
            for name, counts in self.counts.items()
        }
        if tasks:
            write_json(folder / FILE, {"split": self.split, "tasks": tasks})

"""Task-wise early stopping: a task stops counting once its validation score no longer improves.

Source: Zhang, Luo, Loy, Tang, "Facial Landmark Detection by Deep Multi-task Learning", ECCV 2014,
§3.2: auxiliary tasks that have peaked are stopped before they harm the main one.

Differs from the paper: a task is stopped after `patience` evaluations without a better primary
metric on validation images, instead of by a ratio of training and validation errors; any task may
stop, those in `keep` never do, and training ends when all have. The head of a stopped task keeps
its weights. A task without validation labels never stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field
from torch import Tensor

from polytask.balancing import Balancer, BalancerOptions
from polytask.errors import UserError, unknown

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod


class EarlyStoppingOptions(BalancerOptions):
    """When a task has peaked."""

    patience: int = Field(5, ge=1, description="evaluations without progress before a task stops")
    least: float = Field(0.0, ge=0, description="a gain of the primary metric that is progress")
    keep: list[str] = Field([], description="tasks that never stop")


class EarlyStopping(Balancer):
    """Weight 1 for every task that has not stopped."""

    Options = EarlyStoppingOptions
    options: EarlyStoppingOptions

    def __init__(self, tasks: Sequence[str], options: EarlyStoppingOptions) -> None:
        super().__init__(tasks, options)
        self.best: dict[str, float] = {}
        self.waited: dict[str, int] = {}

    def check(self, method: SharingMethod) -> None:
        for task in self.options.keep:
            if task not in self.tasks:
                raise UserError(unknown("balancing.early_stopping.keep", "task", task, self.tasks))

    def has_stopped(self, task: str) -> bool:
        """Whether a task has peaked; it does not start again."""
        return task not in self.options.keep and self.waited.get(task, 0) >= self.options.patience

    @property
    def is_done(self) -> bool:
        """Whether every task has stopped."""
        return all(map(self.has_stopped, self.tasks))

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return {task: 1.0 for task in losses if not self.has_stopped(task)}

    def on_scores(self, scores: Mapping[str, float]) -> None:
        for task, score in scores.items():
            if self.has_stopped(task):
                continue
            if task not in self.best or score > self.best[task] + self.options.least:
                self.best[task], self.waited[task] = score, 0
            else:
                self.waited[task] += 1

    def get_extra_state(self) -> dict[str, Any]:
        return {"best": dict(self.best), "waited": dict(self.waited)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.best, self.waited = dict(state["best"]), dict(state["waited"])

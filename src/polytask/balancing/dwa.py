"""Dynamic weight average: a task whose loss falls more slowly than the others' weighs more.

Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 7.

Differs from the paper: with `granularity: iteration`, a `prior` and a `cutoff` it is the rule of
published pet segmentation code, which compares the last two batches instead of epochs, starts anew
each epoch, weighs tasks by a prior and drops those whose loss is small. A task without two means
(or with a loss of 0) has ratio 1; with tasks absent the weights of the K present ones sum to K.
torchjd's `DWA` keeps its averages outside `state_dict` and needs all tasks in every step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from polytask.balancing import Balancer, BalancerOptions

FASTEST = 1e6  # a ratio beyond it counts as this much, so that no weight is infinity / infinity


class DWAOptions(BalancerOptions):
    """What is compared, and how sharply."""

    per_task = ("prior", "cutoff")

    temperature: float = Field(2.0, gt=0, description="T: larger makes weights more alike")
    granularity: Literal["epoch", "iteration"] = Field(
        "epoch", description="compare mean losses of epochs, or losses of batches within an epoch"
    )
    prior: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="factor of a task before weights are scaled"
    )
    cutoff: float | dict[str, float] | None = Field(
        None, description="leave a task out of steps where its loss is below this"
    )


class DWA(Balancer):
    """Weights K · softmax(r / T), r the loss of the last epoch over that of the one before."""

    Options = DWAOptions
    options: DWAOptions

    def __init__(self, tasks: Sequence[str], options: DWAOptions) -> None:
        super().__init__(tasks, options)
        self.before: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        found = self._weights(list(losses))
        if self.options.granularity == "iteration":
            self._remember(losses)
        return {task: w for task, w in found.items() if losses[task] >= self._cutoff(task)}

    def _weights(self, tasks: list[str]) -> dict[str, float]:
        prior = {task: self.options.prior.get(task, 1.0) for task in tasks}
        if not any(task in self.before for task in tasks):
            return prior
        ratios = {task: self._ratio(task) / self.options.temperature for task in tasks}
        top = max(ratios.values())
        raised = {task: prior[task] * math.exp(ratios[task] - top) for task in tasks}
        total = math.fsum(raised.values())
        return {task: len(tasks) * value / total for task, value in raised.items()}

    def _ratio(self, task: str) -> float:
        old, new = self.before.get(task, 0.0), self.last.get(task, 0.0)
        return min(new / old, FASTEST) if old > 0 and math.isfinite(old) and new >= 0 else 1.0

    def _cutoff(self, task: str) -> float:
        cutoff = self.options.cutoff
        if isinstance(cutoff, dict):
            return cutoff.get(task, -math.inf)
        return -math.inf if cutoff is None else cutoff

    def _remember(self, losses: Mapping[str, float]) -> None:
        for task, loss in losses.items():
            if task in self.last:
                self.before[task] = self.last[task]
            self.last[task] = loss

    def on_epoch_end(self, losses: Mapping[str, float]) -> None:
        if self.options.granularity == "epoch":
            self._remember(losses)
        else:
            self.before, self.last = {}, {}

    def get_extra_state(self) -> dict[str, Any]:
        return {"before": dict(self.before), "last": dict(self.last)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.before, self.last = dict(state["before"]), dict(state["last"])

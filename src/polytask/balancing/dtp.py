"""Dynamic task prioritisation: the harder a task is at the moment, the more it weighs.

Source: Guo et al., "Dynamic Task Prioritization for Multitask Learning", ECCV 2018, eq. 3-5.

Differs from the paper: it leaves open where its key performance indicators come from. Here κ is the
task's primary metric on each training batch (validation labels stay unseen), averaged with
`discount` on the newest value and at least 0.01, so that a task that is always wrong has a finite
weight. Tasks whose primary metric is better when lower are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from polytask.balancing import Balancer, BalancerOptions, Processes
from polytask.errors import Fault, UserError
from polytask.tasks.merging import alone, merge

if TYPE_CHECKING:
    from polytask.batch import Batch
    from polytask.sharing.method import Outputs, SharingMethod

LEAST = 0.01


class DTPOptions(BalancerOptions):
    """How sharply difficulty counts and how fast it is followed."""

    gamma: float = Field(1.0, ge=0, description="focus: larger neglects easy tasks more")
    discount: float = Field(0.1, gt=0, le=1, description="share of the newest batch in κ")


class DTP(Balancer):
    """Weights −(1 − κ)^γ · log κ, κ the running mean of a task's primary metric in training."""

    Options = DTPOptions
    options: DTPOptions

    def __init__(self, tasks: Sequence[str], options: DTPOptions) -> None:
        super().__init__(tasks, options)
        self.kpi: dict[str, float] = {}
        self._metrics: dict[str, Any] = {}

    def check(self, method: SharingMethod) -> None:
        faults = [
            Fault(
                "balancing.dtp",
                f'the metric {task.primary} of task "{name}" is better when lower; '
                "expected one that rises to 1.",
            )
            for name, task in method.tasks.items()
            if not task.higher_is_better
        ]
        if faults:
            raise UserError(faults)

    @torch.no_grad()
    def on_outputs(
        self, method: SharingMethod, batch: Batch, outputs: Outputs, processes: Processes
    ) -> None:
        for name, group, target in batch:
            if target.value is None:
                continue
            task = method.tasks[name]
            if name not in self._metrics:
                self._metrics[name] = alone(task.metrics())
            metrics = self._metrics[name].to(group.images.device)
            metrics.reset()
            if target.rows is None or len(target.rows):
                metrics.update(*task.scored(outputs.predictions[name], target.value))
            if processes.size > 1 and not merge(metrics, processes.gather):
                continue
            kpi = float(metrics.compute()[task.primary])
            if math.isfinite(kpi):
                self.see(name, kpi)

    def see(self, task: str, kpi: float) -> None:
        """Take the newest value of a task's indicator into its running mean."""
        share = self.options.discount if task in self.kpi else 1.0
        self.kpi[task] = share * kpi + (1 - share) * self.kpi.get(task, 0.0)

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return {task: self._focal(self.kpi.get(task)) for task in losses}

    def _focal(self, kpi: float | None) -> float:
        if kpi is None:
            return 1.0
        bounded = min(max(kpi, LEAST), 1.0)
        return float(-((1 - bounded) ** self.options.gamma) * math.log(bounded))

    def get_extra_state(self) -> dict[str, Any]:
        return {"kpi": dict(self.kpi)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.kpi = dict(state["kpi"])

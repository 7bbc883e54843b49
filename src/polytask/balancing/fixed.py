"""Fixed weights: each task's loss times a number of the config.

Source: weighted sums of task losses, as in every early multi-task network.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from polytask.balancing import Balancer, BalancerOptions


class FixedOptions(BalancerOptions):
    """A weight per task; 1 where none is given."""

    per_task = ("weights",)

    weights: dict[str, float] = Field(default_factory=dict, description="weight of each task")


class Fixed(Balancer):
    """The config's weights, unchanged through training."""

    Options = FixedOptions
    options: FixedOptions

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return {task: self.options.weights.get(task, 1.0) for task in losses}

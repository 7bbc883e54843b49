"""Uncertainty weighting: each task has a learned variance that divides its loss.

Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018,
eq. 10.

Differs from the paper: every task has the form of classification, L / σ² + log σ, which starts as
`equal`; a regression's ½ only scales its loss. s = log σ² is learned, as the paper advises, and put
back within ±10 before each step, so that a loss of 0 cannot make a weight infinite; it is not
decayed. torchjd's `UW` is the regression form for all tasks and needs every task in every step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polytask.balancing import Balancer, BalancerOptions, added

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod

LIMIT = 10.0


class Uncertainty(Balancer):
    """Minimises Σ exp(−s) · L + s / 2 over the present tasks, s learned by the optimizer."""

    def __init__(self, tasks: Sequence[str], options: BalancerOptions) -> None:
        super().__init__(tasks, options)
        # One parameter a task: those of absent tasks get no gradient, so momentum leaves them.
        self.log_variance = nn.ParameterDict({t: nn.Parameter(torch.zeros(())) for t in tasks})

    @torch.no_grad()
    def on_step(self, key: int, method: SharingMethod) -> None:
        # Not a clamp in the loss, which has no gradient beyond its bounds: none would come back.
        del key, method
        for s in self.log_variance.values():
            s.clamp_(-LIMIT, LIMIT)

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return {task: torch.exp(-self.log_variance[task]) for task in losses}

    def own_loss(self, present: Collection[str]) -> Tensor | None:
        return added(0.5 * self.log_variance[task] for task in present)

"""Random weighting: weights drawn anew in every step, a softmax of normal numbers.

Source: Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
Learning", TMLR 2022, alg. 1.

Differs from the paper: the weights of the K tasks of a step sum to K, not to 1, so that the
learning rate of `equal` serves. torchjd's `Random` draws from the global generator and does not
know which task is which; here draws depend on (seed, phase, epoch, step) and the task alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polytask.balancing import Balancer, BalancerOptions

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod


class Random(Balancer):
    """Weights K · softmax(z) over the present tasks, z from a standard normal distribution."""

    def __init__(self, tasks: Sequence[str], options: BalancerOptions) -> None:
        super().__init__(tasks, options)
        self.drawn = dict.fromkeys(tasks, 1.0)

    def on_step(self, key: int, method: SharingMethod) -> None:
        del method
        generator = torch.Generator().manual_seed(key)
        drawn = torch.randn(len(self.tasks), generator=generator).exp().tolist()
        self.drawn = dict(zip(self.tasks, drawn, strict=True))

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        total = math.fsum(self.drawn[task] for task in losses)
        return {task: len(losses) * self.drawn[task] / total for task in losses}

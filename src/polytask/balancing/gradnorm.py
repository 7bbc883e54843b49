"""GradNorm: weights learned so that tasks pull on the last shared layer in proportion to how far
each still has to go.

Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep
Multitask Networks", ICML 2018, eq. 1-2 and alg. 1.

W is the last weight of two axes or more in the deepest unit that two tasks share.

Differs from the paper: weights have an SGD rate of their own (`lr`), stay above 10⁻³ before they
are scaled to sum to T, and start at 1. L(0) is a task's first loss. A task whose gradient on that
layer is missing, 0 or not finite (it left the trunk earlier, or has no label in the batch) is not
measured in that step. As Ḡ · r^α is a constant and w > 0, the derivative of |w · ‖∇L‖ − Ḡ · r^α| by
w is ± ‖∇L‖, so that no second derivative is taken; the gradients of single losses stop at the last
shared layer, so the trunk below is passed once, as in plain training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.balancing import ALONE, Balancer, BalancerOptions, Processes, global_values
from polytask.errors import UserError

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod

LEAST = 1e-3


class GradNormOptions(BalancerOptions):
    """How strongly training rates are evened out."""

    alpha: float = Field(1.5, ge=0, description="restoring force: larger evens rates out more")
    lr: float = Field(0.025, gt=0, description="learning rate of the weights")


class GradNorm(Balancer):
    """Weights w that sum to T, moved down Σ |w · ‖∇L‖ − Ḡ · r^α| after each step."""

    Options = GradNormOptions
    options: GradNormOptions

    def __init__(self, tasks: Sequence[str], options: GradNormOptions) -> None:
        super().__init__(tasks, options)
        self.weight = dict.fromkeys(tasks, 1.0)
        self.first: dict[str, float] = {}

    def check(self, method: SharingMethod) -> None:
        if not hasattr(method, "last_shared"):
            raise UserError.at(
                "balancing.gradnorm",
                f"{type(method).__name__} has no last shared layer to measure gradients on.",
                "Use dwa or uncertainty, which need losses only.",
            )

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return {task: self.weight[task] for task in losses}

    def backward(
        self,
        losses: Mapping[str, Tensor],
        method: SharingMethod,
        penalty: Tensor | None = None,
        processes: Processes = ALONE,
        values: Mapping[str, float] | None = None,
    ) -> None:
        unit = method.last_shared()  # type: ignore[operator]
        layer = [p for p in method.parameters() if p in unit and p.dim() > 1 and p.requires_grad]
        if values is None:
            values = global_values(losses, self.tasks, processes)
        norms = self._norms(losses, list(values), layer[-1:], processes)
        super().backward(losses, method, penalty, processes, values)
        self.update(values, norms)

    def _norms(
        self,
        losses: Mapping[str, Tensor],
        present: Sequence[str],
        layer: Sequence[nn.Parameter],
        processes: Processes,
    ) -> dict[str, float]:
        """‖∇L‖ of each present task, over all processes, without its weight."""
        found = {}
        for task in present if layer else ():
            gradient = torch.cat([torch.zeros_like(p).flatten() for p in layer])
            if task in losses and losses[task].requires_grad:
                parts = torch.autograd.grad(
                    losses[task], layer, retain_graph=True, materialize_grads=True
                )
                gradient = torch.cat([part.flatten() for part in parts])
            found[task] = float(processes.sum(gradient).norm())
        return found

    def update(self, losses: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """One step of the weights from the global losses and ‖∇L‖ on the last shared layer."""
        for task, loss in losses.items():
            if math.isfinite(loss):
                self.first.setdefault(task, loss)
        measured = [
            task
            for task, norm in norms.items()
            if 0 < norm < math.inf and math.isfinite(losses[task]) and self.first[task] > 0
        ]
        if not measured:
            return
        left = {task: losses[task] / self.first[task] for task in measured}
        mean_left = math.fsum(left.values()) / len(measured)
        mean_norm = math.fsum(self.weight[t] * norms[t] for t in measured) / len(measured)
        for task in measured:
            rate = left[task] / mean_left if mean_left > 0 else 1.0
            aim = mean_norm * rate**self.options.alpha
            slope = norms[task] * _sign(self.weight[task] * norms[task] - aim)
            self.weight[task] = max(LEAST, self.weight[task] - self.options.lr * slope)
        scale = len(self.tasks) / math.fsum(self.weight.values())
        self.weight = {task: weight * scale for task, weight in self.weight.items()}

    def get_extra_state(self) -> dict[str, Any]:
        return {"weight": dict(self.weight), "first": dict(self.first)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.weight, self.first = dict(state["weight"]), dict(state["first"])


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)

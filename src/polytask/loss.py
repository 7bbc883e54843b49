"""Losses as sums over images and the global weight that divides them (DESIGN, Task)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Term:
    """An extra loss that a method or a phase adds.

    With a `task`: `value` [R] and `weight` [R] per labelled image, like a task's own loss, and
    added to it before balancing. Without one: a scalar penalty on parameters, `weight` its factor.
    """

    name: str
    task: str | None
    value: Tensor
    weight: Tensor | float = 1.0


def normalised(loss: Tensor, total_weight: Tensor) -> Tensor:
    """Σ `loss` [R] / `total_weight`, the global weight of all processes.

    A task without a labelled image has an empty sum and weight 0: its loss is 0, not NaN, and it
    gives no gradient.
    """
    return loss.sum() / total_weight.clamp(min=1e-12)

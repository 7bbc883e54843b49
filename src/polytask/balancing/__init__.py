"""How task losses are combined: task weighting turns losses into weights.

A balancer sees global losses only. It is a module, so that what it learns or remembers is in the
checkpoint; it starts afresh in each phase unless the phase keeps it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from polytask import registry

NOT_NAMES = ()


class BalancerOptions(BaseModel):
    """Options of a balancer in a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Balancer(nn.Module, ABC):
    """Turns the losses of the tasks present in a step into one to minimise."""

    Options: ClassVar[type[BalancerOptions]] = BalancerOptions

    def __init__(self, tasks: Sequence[str], options: BalancerOptions) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.options = options

    @abstractmethod
    def weights(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor | float]:
        """The weight of each present task."""

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Σ weight · loss over the present tasks."""
        weights = self.weights(losses)
        terms = [loss * weights[task] for task, loss in losses.items()]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def on_step(self, epoch: int, step: int) -> None:
        """Called before each step; balancers that draw at random seed themselves with it."""

    def on_epoch_end(self, losses: Mapping[str, float]) -> None:
        """Called with the epoch's mean loss of each task."""


def build(spec: str | Mapping[str, Any], tasks: Sequence[str]) -> Balancer:
    """A balancer from its config entry: a name, or `{name: options}`."""
    name, options = (spec, {}) if isinstance(spec, str) else next(iter(spec.items()))
    made = registry.load("balancing", name, Balancer)
    return made(tasks, made.Options(**(options or {})))  # type: ignore[no-any-return]

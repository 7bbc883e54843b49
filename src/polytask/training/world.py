"""The processes of a run, through lightning-fabric: device, precision and sums over processes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


class World:
    """Rank, device and collectives of a run; with one process every collective is the identity.

    The model is replicated, not wrapped: a process works on its slice of the global batch, losses
    are divided by global weights, so that gradients simply add (DESIGN, Engine).
    """

    def __init__(self, fabric: Any) -> None:
        self.fabric = fabric
        self.rank: int = fabric.global_rank
        self.size: int = fabric.world_size
        self.device: torch.device = fabric.device

    @classmethod
    def of(cls, precision: str = "32", accelerator: str = "auto") -> World:
        """One process on the best device of this machine."""
        from lightning_fabric import Fabric

        return cls(Fabric(accelerator=accelerator, devices=1, precision=PRECISION[precision]))

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision's context for a forward pass."""
        context: AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def seed(self, number: int) -> None:
        """Seed the generators that a step draws from: the CPU's and the device's.

        `torch.manual_seed` also takes a stack trace for each backend that is not in use.
        """
        torch.default_generator.manual_seed(number)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(number)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size == 1:
            return value
        total: Tensor = self.fabric.all_reduce(value, reduce_op="sum")
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; one without a gradient adds zeros.

        A parameter that no process has a gradient for keeps none.
        """
        if self.size == 1:
            return
        known = list(parameters)
        has = torch.tensor([p.grad is not None for p in known], device=self.device).float()
        has = self.sum(has)
        for p, count in zip(known, has.tolist(), strict=True):
            if count:
                p.grad = self.sum(torch.zeros_like(p) if p.grad is None else p.grad)

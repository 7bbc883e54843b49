"""Operations of one forward pass, module by module, counted on tensors without data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

Convention = Literal["plain", "thop_legacy"]
AVERAGE_POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(order=True)
class Work:
    """Multiply-accumulates, and operations per element of what a convention leaves out of them."""

    macs: int = 0
    elementwise: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.elementwise + other.elementwise)


def total(work: Mapping[nn.Module, Work], modules: Iterable[nn.Module]) -> Work:
    """The work of some modules together."""
    return sum((work[module] for module in modules), Work())


class Meter:
    """Count what every module of a network does itself, its children left out.

    `plain` takes the multiply-accumulates of convolutions, linear layers and other matrix products
    (attention, links). `thop_legacy` follows the counter of the older papers: those, plus two
    operations per output element of a batch norm and one per input and output element of an
    average pool. Maximum pools and activations are free in both.

    A module whose class says `elementwise` does so many operations per output element that are
    reported apart; average pools inside `free_pools` are not counted in either convention.

    The network is left with hooks and without batch norms that normalise: give it a copy.
    """

    def __init__(
        self,
        network: nn.Module,
        convention: Convention = "plain",
        free_pools: Iterable[nn.Module] = (),
    ) -> None:
        self.network = network
        self.legacy = convention == "thop_legacy"
        self.free = {part for module in free_pools for part in module.modules()}
        self.work: dict[nn.Module, Work] = {}
        self._products = FlopCounterMode(display=False)
        self._open: list[int] = []  # per running module: products counted before it and within it
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                # It holds no product and keeps shapes, but would take most of the time.
                module.forward = _same  # type: ignore[assignment, method-assign]
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def run(self, argument: Any) -> dict[nn.Module, Work]:
        """The work of each module in one pass of the network on `argument`."""
        self.work = {module: Work() for module in self.network.modules()}
        with torch.no_grad(), self._products:
            self.network(argument)
        return self.work

    def _enter(self, module: nn.Module, args: Any) -> None:
        del module, args
        self._open.append(self._products.get_total_flops())

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        inside = self._products.get_total_flops() - self._open.pop()
        # What a child did is taken from every module around it.
        self._open = [before + inside for before in self._open]
        work = self.work[module]
        work.macs += inside // 2
        if self.legacy and isinstance(module, _BatchNorm):
            work.macs += 2 * elements(output)
        if self.legacy and isinstance(module, AVERAGE_POOLS) and module not in self.free:
            work.macs += elements(args) + elements(output)
        per_element = getattr(type(module), "elementwise", 0)
        if per_element:
            work.elementwise += per_element * elements(output)


def _same(x: Tensor) -> Tensor:
    return x


def elements(value: Any) -> int:
    """How many numbers the tensors of a value hold."""
    if isinstance(value, Tensor):
        return value.numel()
    return sum(map(elements, value))

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
LAYERS = (torch.ops.aten.convolution, torch.ops.aten.addmm)  # of modules or of functions


@dataclass(order=True)
class Work:
    """What one pass does.

    `macs`: multiply-accumulates of convolutions and linear layers, the figure that papers print;
    `products`: those of other matrix products (attention, links between columns); `elementwise`:
    operations on single elements, of modules that say how many they do (filters).
    """

    macs: int = 0
    products: int = 0
    elementwise: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.macs + other.macs,
            self.products + other.products,
            self.elementwise + other.elementwise,
        )


def total(work: Mapping[nn.Module, Work], modules: Iterable[nn.Module]) -> Work:
    """The work of some modules together."""
    return sum((work[module] for module in modules), Work())


class Meter:
    """Count what every module of a network does itself, its children left out.

    `plain` counts as `Work` says. `thop_legacy` follows the counter of older papers, which adds to
    the MACs two operations per output element of a batch norm and one per input and output element
    of an average pool outside `free_pools`. Maximum pools and activations are free in both.

    A module whose class says `elementwise` does so many operations per output element. The network
    is left with hooks and without batch norms that normalise: give it a copy.
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
        self._counter = FlopCounterMode(display=False)
        # Per running module: what was counted before it and in its children, (layers, all).
        self._open: list[tuple[int, int]] = []
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                # It holds no product and keeps shapes, but would take most of the time.
                module.forward = _same  # type: ignore[assignment, method-assign]
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def run(self, argument: Any) -> dict[nn.Module, Work]:
        """The work of each module in one pass of the network on `argument`."""
        self.work = {module: Work() for module in self.network.modules()}
        with torch.no_grad(), self._counter:
            self.network(argument)
        return self.work

    def _counted(self) -> tuple[int, int]:
        by_operation = self._counter.flop_counts["Global"]
        layers = sum(by_operation.get(operation, 0) for operation in LAYERS)
        return layers // 2, sum(by_operation.values()) // 2

    def _enter(self, module: nn.Module, args: Any) -> None:
        del module, args
        self._open.append(self._counted())

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        layers, everything = map(int.__sub__, self._counted(), self._open.pop())
        # What a child did is taken from every module around it.
        self._open = [(before + layers, all_ + everything) for before, all_ in self._open]
        if isinstance(module, nn.Linear):
            layers = everything
        work = self.work[module]
        work.macs += layers
        work.products += everything - layers
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

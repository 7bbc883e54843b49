"""The layers whose kernels columns share: banks, and kernels that stand in for raw ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polytask.backbones.staged import StagedBackbone
from polytask.sharing.columns.kernel_bank import KernelBank


class Layer(NamedTuple):
    """A convolution of every column: its unit, and its path inside it."""

    unit: str
    path: str

    @property
    def name(self) -> str:
        """As the source library has it."""
        return f"{self.unit}.{self.path}" if self.path else self.unit


def convolutions(column: StagedBackbone) -> Iterator[Layer]:
    """All convolutions, in the order in which they stand."""
    for unit, module in column:
        for path, inner in module.named_modules():
            if isinstance(inner, nn.Conv2d):
                yield Layer(unit, path)


class KernelLayers(nn.ModuleDict):
    """A bank for every layer in which any two columns may share.

    Args:
        layers: a layer's convolutions, one a column; they are not taken in as modules.
        groups: the number of each column's group; kernels are shared inside a group alone.
        make: a bank for columns of so many kernels, of which some pairs may be linked.
    """

    def __init__(
        self,
        layers: Mapping[Layer, Sequence[nn.Module]],
        groups: Sequence[int],
        make: Callable[[list[int], list[tuple[int, int]]], KernelBank],
    ) -> None:
        super().__init__()
        for layer, modules in layers.items():
            shapes = [module.get_parameter("weight").shape for module in modules]
            pairs = [
                (i, j)
                for i, j in combinations(range(len(shapes)), 2)
                if groups[i] == groups[j] and shapes[i][1:] == shapes[j][1:]
            ]
            if pairs:
                self[_key(layer)] = make([shape[0] for shape in shapes], pairs)

    def bank(self, layer: Layer) -> KernelBank | None:
        """The layer's bank, `None` where no two columns may share."""
        return self._modules.get(_key(layer))  # type: ignore[return-value]

    def refresh(self, layers: Mapping[Layer, Sequence[nn.Module]]) -> None:
        """Find the pairs of all layers."""
        for layer, modules in layers.items():
            bank = self.bank(layer)
            if bank is not None:
                bank.refresh([module.get_parameter("weight") for module in modules])

    def effective(
        self, layers: Mapping[Layer, Sequence[nn.Module]]
    ) -> list[tuple[nn.Module, Tensor]]:
        """The convolutions whose kernels differ from the raw ones, and what they are."""
        found: list[tuple[nn.Module, Tensor]] = []
        for layer, modules in layers.items():
            bank = self.bank(layer)
            weights = [module.get_parameter("weight") for module in modules]
            if bank is None or weights[0].is_meta:  # on meta no pair is known, and none counts
                continue
            with torch.autocast(weights[0].device.type, enabled=False):
                kernels = bank(weights)
            found += [(modules[i], mixed) for i, mixed in kernels.items()]
        return found

    def ratios(self, layer: Layer) -> tuple[float, float]:
        """Participation and compression of a layer, by the pairs found last."""
        bank = self.bank(layer)
        return (0.0, 0.0) if bank is None else bank.ratios()


@contextmanager
def standing_in(kernels: Sequence[tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """Convolutions run with other kernels inside."""
    raw = [module.get_parameter("weight") for module, _ in kernels]
    try:
        for module, kernel in kernels:
            module._parameters["weight"] = kernel  # type: ignore[assignment]
        yield
    finally:
        for (module, _), weight in zip(kernels, raw, strict=True):
            module._parameters["weight"] = weight


def _key(layer: Layer) -> str:
    """A layer's name as a part of a module's, which must hold no dot."""
    return layer.name.replace(".", "_")

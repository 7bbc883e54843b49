"""Units that run with masked weights in the place of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from torch import Tensor, nn
from torch.func import functional_call

from polytask.backbones.staged import State

Layer: TypeAlias = "nn.Conv2d | nn.Linear"


class Substituted(nn.Module):
    """The unit with the tensors that `tensors` makes, by name, at every pass.

    Its parameters are the unit's; gradients reach them through the tensors.
    """

    def __init__(self, unit: nn.Module, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.unit = unit
        self.tensors = tensors

    def forward(self, state: State) -> State:
        found: State = functional_call(self.unit, dict(self.tensors()), (state,))
        return found


def layers_of(unit: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The convolutions and linear layers of a unit, by name: what masks are made for."""
    for name, layer in unit.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield name, layer


def buffer_name(kind: str, unit: str, layer: str) -> str:
    """The name of a buffer beside a layer's weight; a tensor's name must hold no dot."""
    return f"{kind}@{unit}/{layer}".replace(".", "_")

"""A unit that runs with other tensors in the place of its own: masked, sliced or mixed weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.func import functional_call

from polytask.backbones.staged import State


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

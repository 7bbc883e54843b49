"""Adapters: a frozen trunk that serves every task through a few numbers of the task's own.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, §4.1: a layer
runs with W + (α/r)·B·A, where B (outputs × r) starts at 0 and A (r × inputs) at random.

The trunk comes pretrained (`backbone.pretrained`, `weights` or `init`) and never changes: no
gradient, no decay, batch norms and dropout as in scoring. B is 0 at the start, so that training
starts from the frozen network bit for bit. A task's path holds the sums, so that it costs what the
frozen network costs. `rank: 0` leaves a task its head, and its filter with `filter: true`; the
trunk then runs once for all tasks, as it does up to the first unit that `layers` names.

Differs from the paper: every linear layer and every convolution of one group is adapted, not
attention alone, a convolution as the matrix outputs × inputs·k·k; A starts with the variance
1/inputs; r is at most the smaller side of a layer's matrix.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable
from functools import partial

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from polytask.errors import UserError
from polytask.phase import Phase, Schedule
from polytask.sharing.masking import Substituted, buffer_name, layers_of
from polytask.sharing.trunk import Trunk, TrunkOptions


class AdaptersOptions(TrunkOptions):
    """How many numbers a task adds to a layer, and to which layers."""

    rank: int = Field(4, ge=0, description="rank of what a task adds to a layer; 0: nothing")
    alpha: float | None = Field(
        None, gt=0, description="α: what is added counts α/rank times; by default the rank"
    )
    layers: str = Field(
        "", description="regular expression of the layers to adapt, as layer4 or attn; all if empty"
    )

    @field_validator("layers")
    @classmethod
    def _compile(cls, layers: str) -> str:
        try:
            re.compile(layers)
        except re.error as error:
            raise ValueError(f"expected a regular expression: {error}") from error
        return layers


class LowRank(nn.Module):
    """W to W + scale·B·A, where `down` is A [r, inputs·k·k] and `up` is B [outputs, r]."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        rank = min(rank, outputs, inputs)
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down).view(weight.shape)


class Adapters(Trunk):
    """`adapters.<task>` holds what a task adds, by the trunk's layers."""

    Options = AdaptersOptions
    options: AdaptersOptions

    def prepare(self) -> None:
        self.backbone.requires_grad_(False)
        rank, alpha = self.options.rank, self.options.alpha
        scale = 1.0 if alpha is None else alpha / max(1, rank)
        self.adapted = {name: self._adapted(name) if rank else [] for name in self.backbone.names}
        self.adapters = nn.ModuleDict()
        for task in self.tasks:
            last = self.backbone.position(self.taps(task)[-1])
            own = nn.ModuleDict()
            with self.setting.seeded("adapters", task):
                for name in self.backbone.names[: last + 1]:
                    layers = dict(layers_of(self.backbone.unit(name)))
                    for inside in self.adapted[name]:
                        low = LowRank(layers[inside].weight, rank, scale)
                        own[buffer_name("lora", name, inside)] = low
            if rank and not own:
                problem = f'got "{self.options.layers}", which matches no layer that {task} runs'
                raise UserError.at("layers", problem, "Leave it out to adapt all of them.")
            self.adapters[task] = own

    def _adapted(self, name: str) -> list[str]:
        """The layers of a unit that tasks add to, by their names inside it."""
        return [
            inside
            for inside, layer in layers_of(self.backbone.unit(name))
            if not (isinstance(layer, nn.Conv2d) and layer.groups > 1)
            and re.search(self.options.layers, f"{name}.{inside}")
        ]

    def _sums(self, task: str, name: str) -> dict[str, Tensor]:
        """The adapted weights of a unit, by their names inside it."""
        unit, own = self.backbone.unit(name), self.adapters[task]
        found = {}
        for inside in self.adapted[name]:
            low = own.get_submodule(buffer_name("lora", name, inside))
            weight = f"{inside}.weight"
            found[weight] = low(unit.get_parameter(weight))
        return found

    # The trunk as a task sees it.

    def unit(self, task: str, name: str) -> nn.Module:
        unit = self.backbone.unit(name)
        return Substituted(unit, partial(self._sums, task, name)) if self.adapted[name] else unit

    def key(self, task: str, name: str) -> Hashable:
        return task if self.adapted[name] else None

    def path_unit(self, task: str, name: str) -> nn.Module:
        made = copy.deepcopy(self.backbone.unit(name))
        for weight, adapted in self._sums(task, name).items():
            made.get_parameter(weight).data = adapted.detach()
        return made

    def view(self, task: str) -> set[nn.Parameter]:
        own = super().view(task) - set(self.backbone.parameters())
        return own | set(self.adapters[task].parameters())

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        del streams  # statistics do not change, so that there is nothing to keep apart
        return ()

    def _same(self, one: str, other: str, name: str) -> bool:
        del one, other, name
        return True

    # Training.

    def plan(self, schedule: Schedule) -> list[Phase]:
        return [Phase(epochs=schedule.epochs, trainable=(r"^(?!modules\.|backbone\.)",))]

    def train(self, mode: bool = True) -> Adapters:
        """Set the mode; the trunk stays as in scoring."""
        super().train(mode)
        self.backbone.eval()
        return self

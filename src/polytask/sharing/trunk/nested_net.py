"""Nested sparse networks: task i runs at level i, whose weights are part of every later level's.

Source: Kim, Ahn, Oh, "NestedNet: Learning Nested Sparse Structures in Deep Neural Networks", CVPR
2018; the ratios for 3 and 5 tasks are those of Park, Lee, Kim, IEEE Access 2022.

`scheme: channel`: a level of a share ρ of the parameters runs the first ⌈√ρ·C⌉ of the C channels of
every layer; its path is a physically narrower network. `scheme: weight`: a level keeps the share ρ
of each layer's weights, the largest; they are ranked again every `rerank_every` epochs, and the
gradient reaches the masked ones too (straight through), so that they may come back. The loss is the
mean of the levels' losses, and statistics of batch norms are kept per level.

Differs from the paper: which channels or weights nest is not learned beyond their size; levels are
one per task.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.backbones.norm import BatchNorm, bake
from polytask.backbones.sliced import Width, narrow, slice_convolutions
from polytask.backbones.staged import State
from polytask.errors import UserError
from polytask.sharing.masking import Layer, Substituted, buffer_name, layers_of
from polytask.sharing.method import MethodOptions, Setting
from polytask.sharing.trunk import Trunk, TrunkOptions
from polytask.tasks.task import FeatureShape

RATIOS = {3: [0.5, 0.8, 1.0], 5: [0.35, 0.57, 0.74, 0.83, 1.0]}

Share = Annotated[float, Field(gt=0, le=1)]


class NestedNetOptions(TrunkOptions):
    """How large the level of each task is, and what nests."""

    ratios: list[Share] | None = Field(
        None,
        description="share of the trunk's parameters per task, in their order; by default the "
        "published ones for 3 and 5 tasks, else equal steps",
    )
    scheme: Literal["channel", "weight"] = Field(
        "channel", description="the first channels of every layer, or its largest weights"
    )
    bn: Literal["per_level", "common"] = Field("per_level", description="batch-norm statistics")
    rerank_every: int = Field(1, ge=1, description="epochs between rankings of weights")


class AtWidth(nn.Module):
    """A unit that runs as wide as a share of its channels."""

    def __init__(self, unit: nn.Module, width: Width, share: float) -> None:
        super().__init__()
        self.unit, self.width, self.share = unit, width, share

    def forward(self, state: State) -> State:
        self.width.share = self.share
        found: State = self.unit(state)
        self.width.share = 1.0
        return found


class NestedNet(Trunk):
    """Tasks of equal ratios share their level and its runs."""

    Options = NestedNetOptions
    options: NestedNetOptions

    @classmethod
    def search_space(cls, setting: Setting, options: MethodOptions) -> dict[str, list[Any]]:
        return {f"ratios.{i}": [0.25, 0.5, 0.75, 1.0] for i in range(len(setting.tasks))}

    def prepare(self) -> None:
        self.ratios = dict(zip(self.tasks, self._ratios(), strict=True))
        self.width = Width()
        if self.options.scheme == "channel":
            unfit = slice_convolutions(self.backbone, self.width)
            if unfit:
                problem = f"channel cannot run the backbone's {', '.join(unfit)} narrower."
                raise UserError.at("scheme", problem, "Set scheme: weight.")
        else:
            for name, layer in self._layers():
                self.register_buffer(name, rank(layer.weight))

    def _ratios(self) -> list[float]:
        count, given = len(self.tasks), self.options.ratios
        if given is None:
            return RATIOS.get(count, [(i + 1) / count for i in range(count)])
        if len(given) != count:
            problem = f"got {len(given)} entries; expected one for each of {count} tasks"
            raise UserError.at("ratios", problem)
        return given

    # A task's level of the trunk.

    def share(self, task: str) -> float:
        """The share of channels that gives about the task's share of parameters."""
        return math.sqrt(self.ratios[task])

    def unit(self, task: str, name: str) -> nn.Module:
        unit = self.backbone.unit(name)
        if self.options.scheme == "channel":
            return AtWidth(unit, self.width, self.share(task))
        if self.ratios[task] == 1:
            return unit
        return Substituted(unit, lambda: self._straight_through(task, name))

    def _straight_through(self, task: str, name: str) -> dict[str, Tensor]:
        weights = {}
        for inside, layer, is_masked in self._masks(task, name):
            dense = layer.weight.detach()
            weights[f"{inside}.weight"] = layer.weight + (dense.masked_fill(is_masked, 0) - dense)
        return weights

    def _masks(self, task: str, name: str) -> Iterator[tuple[str, Layer, Tensor]]:
        """(name inside the unit, layer, where the task's level has no weight) of its layers."""
        for inside, layer in layers_of(self.backbone.unit(name)):
            order = self.get_buffer(buffer_name("rank", name, inside))
            yield inside, layer, order >= self.kept(task, order)

    def kept(self, task: str, order: Tensor) -> int:
        """How many weights of a layer the task's level has."""
        return math.ceil(self.ratios[task] * order.numel() - 1e-9)

    def path_unit(self, task: str, name: str) -> nn.Module:
        made = copy.deepcopy(self.backbone.unit(name))
        if self.options.scheme == "channel":
            bake(made, self.norm_key(task, self.setting.stream_of[task], name))
            narrow(made, Width(self.share(task)))
            return made
        layers = dict(layers_of(made))
        for inside, layer, is_masked in self._masks(task, name):
            copied = layers[inside]
            copied.weight.data = layer.weight.detach().masked_fill(is_masked, 0)
            copied.kept = self.kept(task, is_masked)  # type: ignore[assignment]
        return made

    def tail_shapes(self, task: str, taps: list[FeatureShape]) -> list[FeatureShape]:
        if self.options.scheme == "weight":
            return taps
        width = Width(self.share(task))
        return [FeatureShape(width.of(tap.channels), tap.height, tap.width) for tap in taps]

    def key(self, task: str, name: str) -> Hashable:
        del name
        return self.ratios[task]

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        if self.options.bn == "common":
            return streams
        of = self.setting.stream_of
        return tuple(dict.fromkeys(self.norm_key(task, of[task], "") for task in self.tasks))

    def norm_key(self, task: str, stream: str, unit: str) -> str:
        del unit
        return stream if self.options.bn == "common" else f"{stream}/{self.ratios[task]:g}"

    def _same(self, one: str, other: str, name: str) -> bool:
        del one, other, name
        return True

    # Training.

    def _layers(self) -> Iterator[tuple[str, Layer]]:
        for name in self.backbone.names:
            for inside, layer in layers_of(self.backbone.unit(name)):
                yield buffer_name("rank", name, inside), layer

    def after_backward(self, run: Any) -> None:
        """The sum of losses becomes their mean over the levels."""
        del run
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(len(self.tasks))

    def on_epoch_end(self, run: Any) -> None:
        if self.options.scheme == "channel":
            self._fill()
        done = run.epoch + 1
        is_due = done < run.phase.epochs and done % self.options.rerank_every == 0
        if self.options.scheme == "weight" and is_due:
            for name, layer in self._layers():
                self.get_buffer(name).copy_(rank(layer.weight))

    @torch.no_grad()
    def _fill(self) -> None:
        """Channels beyond a level's width take over the largest level's statistics: the level reads
        none of them, but whoever joins the levels' statistics does."""
        shares: dict[str, float] = {}
        for task in sorted(self.tasks, key=self.share):
            shares[self.norm_key(task, self.setting.stream_of[task], "")] = self.share(task)
        (largest, _) = max(shares.items(), key=lambda item: item[1])
        for norm in self.backbone.modules():
            if not isinstance(norm, BatchNorm) or not norm.is_split:
                continue
            theirs = norm.bank(largest)
            for key, share in shares.items():
                own, first = norm.bank(key), Width(share).of(norm.num_features)
                own.mean[first:] = theirs.mean[first:]
                own.var[first:] = theirs.var[first:]


@torch.no_grad()
def rank(weight: Tensor) -> Tensor:
    """The place of each weight in the order of size, from 0 for the largest; ties by position."""
    order = weight.flatten().abs().argsort(descending=True, stable=True)
    places = torch.empty_like(order, dtype=torch.int32)
    places[order] = torch.arange(len(order), dtype=torch.int32, device=weight.device)
    return places.view(weight.shape)

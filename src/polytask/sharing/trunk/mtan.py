"""Multi-task attention network: one trunk, and per task a soft mask on each of its stages.

Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, eq. 1-3.

The mask of a stage reads the unit before the stage's last, the mask gates the last one. Stages are
those of any staged backbone; a stage of one unit is read and gated at that unit. With
`extractor: block` a quarter-width ResNet-18 costs a task 1.53 times the trunk's parameters, the
1.5 that Park, Lee, Kim (IEEE Access 2022) report.

Differs from the paper: the extractors between stages, which all tasks share and each runs on its
own maps, keep running statistics per task. With common ones, tasks on different data sets would be
evaluated with statistics that fit none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.backbones.norm import convert
from polytask.backbones.residual import BottleneckUnit
from polytask.sharing.trunk import Trunk, TrunkOptions
from polytask.tasks.task import FeatureShape


class MtanOptions(TrunkOptions):
    """How attended features travel from stage to stage."""

    extractor: Literal["conv", "block"] = Field(
        "conv", description="shared module between stages: a 3×3 convolution or a residual block"
    )
    reduction: int | None = Field(
        None,
        ge=1,
        description="width of the mask's hidden layer is channels / this; by default 4 behind "
        "bottleneck blocks, else 1",
    )


class Attention(nn.Module):
    """The mask of one task at one stage: sigmoid(BN(W2·ReLU(BN(W1·x)))) [B, C, H, W]."""

    def __init__(self, inputs: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.sigmoid(self.mask(maps))


class ResidualExtractor(nn.Module):
    """A residual block of two 3×3 convolutions with a projected shortcut, all of stride 1."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.body(maps) + self.shortcut(maps))


def conv_extractor(inputs: int, channels: int) -> nn.Module:
    """Conv 3×3, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [B, C, H, W] max-pooled to a size, in cells of equal sides where there are such, or
    enlarged to it, as a decoder needs.

    Equal cells are what ONNX knows; halving, which is what stages do, has them.
    """
    if size[0] > maps.shape[-2] or size[1] > maps.shape[-1]:
        return F.interpolate(maps, list(size), mode="bilinear", align_corners=False)
    sides = list(zip(maps.shape[-2:], size, strict=True))
    cell = [-(-side // wanted) for side, wanted in sides]
    if all(-(-side // step) == wanted for (side, wanted), step in zip(sides, cell, strict=True)):
        return F.max_pool2d(maps, cell, ceil_mode=True)
    return F.adaptive_max_pool2d(maps, list(size))


class AttentionTail(nn.Module):
    """One task's masks over all stages: (u_1, p_1, u_2, p_2, …) to the last attended maps.

    Per stage j: â_j = a_j ⊙ p_j with a_j the mask of [u_j ; f_{j−1}(â_{j−1})].
    """

    def __init__(self, attentions: nn.Module, extractors: nn.Module, count: int) -> None:
        super().__init__()
        self.attentions = attentions
        self.extractors = extractors
        self.count = count

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        extractors = self.extractors.children()
        attended: list[Tensor] = []
        stages = zip(self.attentions.children(), maps[::2], maps[1::2], strict=True)
        for mask, inner, last in stages:
            read = inner
            if attended:
                carried = resized(next(extractors)(attended[-1]), inner.shape[-2:])
                read = torch.cat([inner, carried], dim=1)
            attended.append(mask(read) * last)
        return attended[-self.count :]


class Mtan(Trunk):
    """Every task runs the whole trunk and reads each stage through its own masks."""

    Options = MtanOptions
    options: MtanOptions

    def prepare(self) -> None:
        self.ends = list(self.backbone.stages.values())
        ends = [self.backbone.info[end].channels for end in self.ends]
        inner = [self.backbone.info[self._inner(end)].channels for end in self.ends]
        make = conv_extractor if self.options.extractor == "conv" else ResidualExtractor
        with self.setting.seeded("extractors"):
            self.extractors = nn.ModuleList(
                make(before, after) for before, after in zip(ends[:-1], inner[1:], strict=True)
            )
        convert(self.extractors, tuple(self.tasks), self.current)

    def _inner(self, end: str) -> str:
        """The unit before the last of a stage, if it is of the stage too; else the last."""
        before = self.backbone.position(end) - 1
        name = self.backbone.names[max(0, before)]
        is_same_size = self.backbone.info[name].stride == self.backbone.info[end].stride
        return name if is_same_size and name not in self.ends else end

    def taps(self, task: str) -> list[str]:
        return [name for end in self._ends(task) for name in (self._inner(end), end)]

    def _ends(self, task: str) -> list[str]:
        """The stages that the task runs: of a decoder, those that answer for every pixel."""
        last = self.backbone.position(self.backbone.end(self.tasks[task].is_dense))
        return [end for end in self.ends if self.backbone.position(end) <= last]

    def tail(self, task: str) -> nn.Module:
        attentions = nn.ModuleList()
        for j, end in enumerate(self._ends(task)):
            channels = self.backbone.info[end].channels
            inner = self.backbone.info[self._inner(end)].channels
            is_bottleneck = isinstance(self.backbone.unit(end), BottleneckUnit)
            hidden = max(1, channels // (self.options.reduction or (4 if is_bottleneck else 1)))
            attentions.append(Attention(inner if j == 0 else 2 * inner, hidden, channels))
        return attentions

    def whole_tail(self, task: str) -> nn.Module:
        between = self.extractors[: len(self._ends(task)) - 1]
        return AttentionTail(self.tails[task], between, self.tasks[task].taps)

    def tail_shapes(self, task: str, taps: list[FeatureShape]) -> list[FeatureShape]:
        return taps[1::2][-self.tasks[task].taps :]

    def norm_key(self, task: str, stream: str, unit: str) -> str:
        return task if unit == "tail" else stream

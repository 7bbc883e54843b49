"""NDDR: after every stage, each column goes on with a 1×1 convolution of all columns' maps.

Source: Gao et al., "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative
Dimensionality Reduction", CVPR 2019, §3.

Differs from the paper: any number of columns; links learn at the columns' rate unless `lr` says
otherwise (the authors: 100 times that, without which 0.9 and 0.1 hardly move, at a base rate of
1e-3); the shortcut starts as if it were not there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.sharing.columns.link import Link
from polytask.sharing.columns.linked import LinkedColumns, LinkedOptions
from polytask.sharing.method import MethodOptions, Setting

NORM_MOMENTUM = 0.05  # the authors' decay of 0.95


class NddrOptions(LinkedOptions):
    """How the convolutions start and what surrounds them."""

    alpha: float = Field(0.9, description="initial weight of a column's own channel")
    beta: float | None = Field(
        None, description="that of the same channel in another column; (1 - alpha) / (N - 1)"
    )
    norm: bool = Field(True, description="batch norm and ReLU after the convolution")
    shortcut: bool = Field(False, description="heads read the new maps of all places")


class Fusion(Link):
    """A 1×1 convolution from N·C channels to C for each new map."""

    def __init__(self, mixers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(mixers)

    def forward(self, maps: Sequence[Tensor], outputs: Sequence[int]) -> list[Tensor]:
        joined = torch.cat(list(maps), dim=1)
        return [self.mixers[output](joined) for output in outputs]

    def narrowed(self, outputs: Sequence[int]) -> Fusion:
        return Fusion([copy.deepcopy(self.mixers[output]) for output in outputs])

    def serving(self, outputs: Sequence[int]) -> set[nn.Parameter]:
        return {p for output in outputs for p in self.mixers[output].parameters()}


class Shortcut(nn.Module):
    """The maps of all places at the size of the last one, convolved to its channels."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(sum(channels), channels[-1], 1)
        assert self.conv.bias is not None
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.bias.zero_()
            self.conv.weight[:, -channels[-1] :, 0, 0] = torch.eye(channels[-1])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """List of maps [B, C, H, W] → the one map that the head reads."""
        height, width = maps[-1].shape[-2:]
        maps = [F.adaptive_avg_pool2d(m, (height, width)) for m in maps]
        return [self.conv(torch.cat(maps, dim=1))]


class Nddr(LinkedColumns):
    """Every link learns which channels of all columns make each channel of a column."""

    Options = NddrOptions
    options: NddrOptions

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        several = [name for name, task in setting.tasks.items() if task.taps > 1]
        if several and isinstance(options, NddrOptions) and options.shortcut:
            return f"shortcut joins all maps into one; the head of {several[0]} reads several"
        return super().refuses(setting, options)

    def make_link(self, channels: int, columns: Sequence[str]) -> Link:
        count = len(columns)
        return Fusion([self._mixer(channels, own, count) for own in range(count)])

    def _mixer(self, channels: int, own: int, count: int) -> nn.Sequential:
        options = self.options
        beta = options.beta
        if beta is None:
            beta = (1 - options.alpha) / max(1, count - 1)
        conv = nn.Conv2d(count * channels, channels, 1, bias=False)
        with torch.no_grad():
            for column, block in enumerate(conv.weight[:, :, 0, 0].chunk(count, dim=1)):
                block.copy_(torch.eye(channels) * (options.alpha if column == own else beta))
        if not options.norm:
            return nn.Sequential(conv)
        norm = nn.BatchNorm2d(channels, momentum=NORM_MOMENTUM)
        return nn.Sequential(conv, norm, nn.ReLU(inplace=True))

    def taps(self, task: str) -> list[str]:
        if not self.options.shortcut:
            return super().taps(task)
        (end,) = super().taps(task)
        before = self.names[: self.frame.position(end)]
        return [*(place for place in self.listed() if place in before), end]

    def tail(self, task: str) -> nn.Module | None:
        if not self.options.shortcut:
            return None
        return Shortcut([self.shapes[task][unit][0] for unit in self.taps(task)])

"""A decoder that mirrors the encoder: the map doubles its sides up to those of the output."""

from __future__ import annotations

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from polytask.tasks.task import FeatureShape, Size

NARROWEST = 16  # channels


class Decoder(nn.Module):
    """A map [B, C, h, w] → [B, outputs, H, W] at `size` (H, W).

    Each step enlarges (bilinear) to twice the sides, then 3×3 convolution, batch norm and ReLU with
    half the channels, 16 at least; a 1×1 convolution ends it.
    """

    def __init__(self, feature: FeatureShape, outputs: int, size: Size) -> None:
        super().__init__()
        ratio = max(size[0] / feature.height, size[1] / feature.width)
        count = max(1, math.ceil(math.log2(ratio)))
        self.sizes = [(-(-size[0] // 2**k), -(-size[1] // 2**k)) for k in reversed(range(count))]
        narrower = [max(NARROWEST, feature.channels // 2**k) for k in range(1, count + 1)]
        widths = [feature.channels, *narrower]
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        for size, step in zip(self.sizes, self.steps, strict=True):
            maps = step(F.interpolate(maps, size=size, mode="bilinear", align_corners=False))
        out: Tensor = self.last(maps)
        return out

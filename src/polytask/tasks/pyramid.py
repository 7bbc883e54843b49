"""A light feature pyramid: maps of several stages become one map of scores at the images' size."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from polytask.tasks.task import FeatureShape


class PyramidHead(nn.Module):
    """List of maps [B, Cᵢ, Hᵢ, Wᵢ], coarsest last → [B, outputs, H, W] at `size` (height, width).

    Each map is brought to `width` channels; from the coarsest on, it is enlarged and added to the
    next finer one; a 3×3 and a 1×1 convolution read the finest, whose scores are enlarged.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, §3.
    Differs from the paper: bilinear instead of nearest enlarging, and one smoothing convolution,
    on the finest map, since a dense prediction reads no other.
    """

    def __init__(
        self,
        features: Sequence[FeatureShape],
        outputs: int,
        size: tuple[int, int],
        width: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.size = size
        self.lateral = nn.ModuleList(nn.Conv2d(f.channels, width, 1) for f in features)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        self.scores = nn.Conv2d(width, outputs, 1, bias=bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *finer, merged = [layer(m) for layer, m in zip(self.lateral, maps, strict=True)]
        for inner in reversed(finer):
            merged = inner + enlarged(merged, (inner.shape[-2], inner.shape[-1]))
        return enlarged(self.scores(F.relu(self.smooth(merged))), self.size)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [B, C, H, W] at another (height, width), bilinear; the same where it is theirs."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

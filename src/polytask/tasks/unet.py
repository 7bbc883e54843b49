"""A U-Net decoder: each finer map joins the enlarged coarser one and both are convolved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polytask.tasks.pyramid import enlarged
from polytask.tasks.task import FeatureShape


class Enlarged(nn.Module):
    """Maps [B, C, H, W] at another (height, width), bilinear."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        return enlarged(maps, self.size)


def final_convolution(
    channels: int, outputs: int, size: tuple[int, int], bias: bool = True
) -> nn.Module:
    """A 3×3 convolution to the outputs, whose scores are enlarged to `size`."""
    return nn.Sequential(nn.Conv2d(channels, outputs, 3, padding=1, bias=bias), Enlarged(size))


def twice_convolved(channels: int, width: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for inputs in (channels, width):
        layers += [
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNetHead(nn.Module):
    """List of maps [B, Cᵢ, Hᵢ, Wᵢ], coarsest last → [B, outputs, H, W] at `size` (height, width).

    Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI 2015, fig. 1.
    Differs from the paper: the contracting half is any staged backbone, so that the finest map is
    its first tapped one; bilinear enlarging instead of transposed convolutions, padded
    convolutions with batch norm, and one width for all levels.
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
        coarsest = features[-1].channels
        self.levels = nn.ModuleList()
        for below, feature in enumerate(reversed(features[:-1])):
            carried = width if below else coarsest
            self.levels.append(twice_convolved(carried + feature.channels, width))
        self.scores = final_convolution(
            width if len(features) > 1 else coarsest, outputs, size, bias
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *finer, carried = maps
        for level, feature in zip(self.levels, reversed(finer), strict=True):
            grown = enlarged(carried, (feature.shape[-2], feature.shape[-1]))
            carried = level(torch.cat([feature, grown], dim=1))
        scores: Tensor = self.scores(carried)
        return scores

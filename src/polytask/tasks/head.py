"""The minimal head: pool the map, one linear layer, optionally a hidden one."""

from __future__ import annotations

from torch import nn


def pooled_head(channels: int, outputs: int, hidden: int = 0) -> nn.Module:
    """Global average pool and Linear(channels, outputs).

    `hidden` puts a fully connected layer of that width and a ReLU in between, as the VGG exits of
    Lee et al. 2021 do with 4096.
    """
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if hidden:
        layers += [nn.Linear(channels, hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden or channels, outputs))

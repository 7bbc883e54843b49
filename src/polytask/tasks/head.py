"""The minimal head: pool the map, one linear layer, optionally a hidden one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

Width = Annotated[int, Field(ge=0, le=65536)]
Hidden = Width | list[Annotated[int, Field(ge=1, le=65536)]]
Activation = Literal["relu", "none"]


def pooled_head(
    channels: int, outputs: int, hidden: Hidden = 0, grid: int = 1, activation: Activation = "relu"
) -> nn.Module:
    """Average pool to `grid` × `grid` cells and Linear(channels · grid², outputs).

    `hidden` puts fully connected layers of those widths in between, each with a ReLU, as the VGG
    exits of Lee et al. 2021 do with 4096; the pets system has 200 and 80 on 2 × 2 cells and no
    activation.
    """
    pool = [nn.AdaptiveAvgPool2d(grid), nn.Flatten()]
    return nn.Sequential(*pool, *linear_layers(channels * grid**2, outputs, hidden, activation))


def linear_layers(
    inputs: int, outputs: int, hidden: Hidden, activation: Activation = "relu"
) -> list[nn.Module]:
    """Fully connected layers of the `hidden` widths, then one to the outputs."""
    layers: list[nn.Module] = []
    for width in [hidden] * (hidden > 0) if isinstance(hidden, int) else hidden:
        layers.append(nn.Linear(inputs, width))
        if activation == "relu":
            layers.append(nn.ReLU(inplace=True))
        inputs = width
    return [*layers, nn.Linear(inputs, outputs)]

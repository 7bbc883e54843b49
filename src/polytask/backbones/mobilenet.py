"""MobileNetV2 of any width: a unit per entry of torchvision's `features` (`features.13`).

Stages `stage1` … `stage5` end before the strides: all units of a stage have maps of one size.
`stem: small` gives the first convolution stride 1. Inverted residuals have their branches apart;
their sum is followed by no activation.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision.models import MobileNetV2
from torchvision.models.mobilenetv2 import InvertedResidual

from polytask.backbones import weights
from polytask.backbones.options import Options
from polytask.backbones.staged import StagedBackbone, UnitInfo
from polytask.backbones.stem import first_convolution

NAMES = {"mobilenet_v2": "17 inverted residual blocks between two convolutions"}


def _same(x: Tensor) -> Tensor:
    return x


class InvertedUnit(InvertedResidual):  # type: ignore[misc]
    """torchvision's block; where it has a shortcut, `forward(x)` is `residual(x) + shortcut(x)`."""

    def residual(self, x: Tensor) -> Tensor:
        """Expand, convolve each channel, project."""
        out: Tensor = self.conv(x)
        return out

    @property
    def shortcut(self) -> Callable[[Tensor], Tensor] | None:
        """The identity, or `None` where the block changes stride or channels and has no sum."""
        return _same if self.use_res_connect else None

    def activate(self, x: Tensor) -> Tensor:
        """What follows the sum: nothing, the bottleneck is linear."""
        return x


class MobileNet(StagedBackbone):
    """MobileNetV2's features and its classifier."""

    def classifier(self, classes: int) -> nn.Module:
        """torchvision's: global pool, dropout of 0.2, one linear layer."""
        linear = nn.Linear(self.info[self.last].channels, classes)
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), linear)


def build(name: str, options: Options) -> StagedBackbone:
    """Build a MobileNetV2."""
    options.refuse(options.only_all(name))
    network = MobileNetV2(num_classes=1, width_mult=options.width, block=InvertedUnit)
    first = network.features[0][0] = first_convolution(network.features[0][0], options)
    nn.init.kaiming_normal_(first.weight, mode="fan_out")
    load = partial(weights.load, network, options, first="features.0.0", head=("classifier.",))
    load(offered=partial(weights.from_torchvision, name))
    units: dict[str, nn.Module] = {}
    info: list[UnitInfo] = []
    stages: dict[str, str] = {}
    stage, stride = 1, 1
    for index, unit in network.features.named_children():
        own = unit.stride if isinstance(unit, InvertedUnit) else unit[0].stride[0]
        if units and own > 1:
            stage += 1
        stride *= own
        units[f"features.{index}"] = unit
        info.append(UnitInfo(f"features.{index}", unit.out_channels, stride))
        stages[f"stage{stage}"] = f"features.{index}"
    return MobileNet(units, info, stages)

"""SE-ResNet-50: ResNet-50 whose residual branches scale their channels by what they see.

The network, its names and its weights are those of timm's `seresnet50`, which places strides and
pooling as torchvision's ResNet-50 does, so that the two differ by the gates alone. (timm's
`legacy_seresnet50`, after the authors' Caffe model, strides in the first convolution.)

Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from polytask.backbones import weights
from polytask.backbones.options import Options
from polytask.backbones.residual import BottleneckUnit
from polytask.backbones.resnet import ResidualNetwork, cut
from polytask.backbones.staged import StagedBackbone

NAMES = {"se_resnet50": "ResNet-50 with squeeze-and-excitation gates"}


class SEBottleneckUnit(BottleneckUnit):
    """A bottleneck whose residual map is gated per channel before the sum."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from timm.layers import SEModule

        self.se = SEModule(self.conv3.out_channels, rd_ratio=1 / 16)

    def branch(self, x: Tensor) -> Tensor:
        """The gated residual branch of a map that is already pooled."""
        gated: Tensor = self.se(super().branch(x))
        return gated


def build(name: str, options: Options) -> StagedBackbone:
    """Build SE-ResNet-50."""
    network = ResidualNetwork(SEBottleneckUnit, (3, 4, 6, 3), options)
    offered = partial(weights.from_timm, "seresnet50")
    weights.load(network, options, offered=offered, first="conv1", head=("fc.",))
    return cut(network, options)

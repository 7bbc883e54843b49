"""Convolutions of which only the first channels run: one tensor of weights for every width.

Source: Yu et al., "Slimmable Neural Networks", ICLR 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from polytask.backbones.strided import StridedPointwise, convolve

CONVOLUTIONS = (nn.Conv2d, StridedPointwise)


@dataclass
class Width:
    """What the convolutions of a network have in common: the share of channels that runs now."""

    share: float = 1.0

    def of(self, channels: int) -> int:
        """How many of some channels run; a product a rounding error above a number is that."""
        return math.ceil(self.share * channels - 1e-9)


class SlicedConv2d(nn.Conv2d):
    """A convolution whose first output channels run, on inputs of as many as come.

    Args:
        conv: whose weights it takes over; of one group, or with one per channel.
        width: shared by the convolutions of a network.
        reads_images: all of its input channels come at every width.
    """

    def __init__(self, conv: nn.Conv2d, width: Width, reads_images: bool) -> None:
        super().__init__(**_shape(conv, conv.in_channels, conv.out_channels, conv.groups))
        self.weight, self.bias = conv.weight, conv.bias
        self.width, self.reads_images = width, reads_images

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, groups = self.first(self.width.of(self.out_channels), x.shape[1])
        if groups == 1:
            return convolve(self, x, weight, bias)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)

    def first(self, outputs: int, inputs: int) -> tuple[Tensor, Tensor | None, int]:
        """The weight, bias and groups of the first channels."""
        bias = None if self.bias is None else self.bias[:outputs]
        if self.groups > 1:
            return self.weight[:outputs], bias, outputs
        return self.weight[:outputs, :inputs], bias, 1

    def narrow(self, width: Width) -> nn.Conv2d:
        """torch's convolution with copies of the first weights."""
        inputs = self.in_channels if self.reads_images else width.of(self.in_channels)
        weight, bias, groups = self.first(width.of(self.out_channels), inputs)
        made = nn.Conv2d(**_shape(self, inputs, len(weight), groups))
        made.weight = nn.Parameter(weight.detach().clone())
        made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return made


def _shape(conv: nn.Conv2d, inputs: int, outputs: int, groups: int) -> dict[str, Any]:
    """The arguments of a convolution like another; its tensors are to be replaced."""
    like = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    numbers = {"in_channels": inputs, "out_channels": outputs, "groups": groups}
    return {**like, **numbers, "bias": conv.bias is not None, "device": "meta"}


def slice_convolutions(backbone: nn.Module, width: Width) -> list[str]:
    """Replace every convolution inside; returns what stands in the way, then nothing is replaced.

    Only convolutions of one group or one per channel, and batch norms, can run narrower.
    """
    found: list[tuple[nn.Module, str, nn.Conv2d]] = []
    unfit: dict[str, None] = {}
    for parent in backbone.modules():
        fits = isinstance(parent, nn.BatchNorm2d)
        if type(parent) in CONVOLUTIONS:
            fits = parent.groups in (1, parent.in_channels) and parent.padding_mode == "zeros"
        if not fits and any(True for _ in parent.parameters(recurse=False)):
            unfit[type(parent).__name__] = None
        children = parent.named_children()
        found += [
            (parent, name, conv)
            for name, conv in children
            if isinstance(conv, nn.Conv2d) and type(conv) in CONVOLUTIONS
        ]
    if not unfit:
        for i, (parent, name, conv) in enumerate(found):
            setattr(parent, name, SlicedConv2d(conv, width, reads_images=i == 0))
    return list(unfit)


def narrow(module: nn.Module, width: Width) -> None:
    """Make what is inside as narrow as a width says; its norms have to be torch's."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, SlicedConv2d):
                setattr(parent, name, part.narrow(width))
            elif isinstance(part, nn.BatchNorm2d):
                _narrow_norm(part, width.of(part.num_features))


def _narrow_norm(norm: nn.BatchNorm2d, channels: int) -> None:
    norm.num_features = channels
    for name, parameter in norm.named_parameters():
        setattr(norm, name, nn.Parameter(parameter.detach()[:channels].clone()))
    for name, buffer in norm.named_buffers():
        if buffer.ndim:
            setattr(norm, name, buffer[:channels].clone())

"""Strided 1×1 convolutions of few channels, kept from a fault of the library below torch.

oneDNN's weight gradient of such a convolution in channels_last writes past its workspace where the
input has fewer channels than a block of the processor's registers (8 with AVX2, 16 with AVX-512):
the process dies or learns from wrong gradients. Known as uxlfoundation/oneDNN issue 6035; seen here
with torch 2.14 (oneDNN 3.12). A 1×1 convolution reads one pixel in `stride` anyway, so that the
same numbers come from a convolution of stride 1 on those pixels, which takes another road.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCK = 16


class StridedPointwise(nn.Conv2d):
    """A strided 1×1 convolution that takes over the parameters of torch's."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            bias=conv.bias is not None,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return convolve(self, x, self.weight, self.bias)


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv` with other tensors, of one group."""
    stride = conv.stride
    if is_strided_pointwise(conv) and x.shape[1] < BLOCK and torch.is_grad_enabled():
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    return nn.functional.conv2d(x, weight, bias, stride, conv.padding, conv.dilation)


def is_strided_pointwise(conv: nn.Conv2d) -> bool:
    """Whether it reads single pixels, and not all of them."""
    reads_one = conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
    return reads_one and conv.stride != (1, 1)


def guard(module: nn.Module) -> None:
    """Put a `StridedPointwise` in the place of every such convolution inside."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and is_strided_pointwise(child):
                setattr(parent, name, StridedPointwise(child))

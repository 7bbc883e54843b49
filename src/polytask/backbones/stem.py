"""The first convolution of a network: other numbers of channels, and the form for small images."""

from __future__ import annotations

from torch import nn

from polytask.backbones.options import Options


def first_convolution(conv: nn.Conv2d, options: Options) -> nn.Conv2d:
    """A convolution like `conv` for the images' channels, small for `stem: small`.

    Its weights are torch's initial ones: the caller initialises them as its family does.
    """
    if options.stem == "small":
        return small_convolution(conv, options.channels)
    like = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding")}
    return nn.Conv2d(options.channels, conv.out_channels, bias=conv.bias is not None, **like)


def small_convolution(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A 3×3 convolution of stride 1 in the place of `conv`."""
    bias = conv.bias is not None
    return nn.Conv2d(channels, conv.out_channels, 3, stride=1, padding=1, bias=bias)

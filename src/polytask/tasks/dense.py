"""Tasks that say something of every pixel: which decoder they have, and what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.tasks.deeplab import DeepLabHead
from polytask.tasks.pyramid import PyramidHead
from polytask.tasks.task import FeatureShape, Size, Task, TaskOptions
from polytask.tasks.unet import UNetHead, final_convolution

SAMPLES = 256  # pixels of a map that a constant guess is made from
TAPS = {"fpn": 4, "unet": 4, "deeplab": 1, "conv": 1}


def sampled(maps: Tensor) -> Tensor:
    """The values at pixels spread evenly over maps [R, …, H, W]: [R, …, S], on the CPU."""
    flat = maps.flatten(-2)
    spread = torch.linspace(0, flat.shape[-1] - 1, min(SAMPLES, flat.shape[-1])).long()
    chosen: Tensor = flat[..., spread.to(flat.device)].cpu()
    return chosen


class DenseOptions(TaskOptions):
    """The decoder of a task with an answer for every pixel."""

    decoder: Literal["fpn", "unet", "deeplab", "conv"] = Field(
        "fpn",
        description="conv: one 3×3 convolution, for backbones that decode (residual_segnet)",
    )
    width: int = Field(32, ge=1, le=4096, description="channels of the decoder")
    bias: bool = Field(True, description="whether the last convolution has a bias")


class DenseTask(Task):
    """What tasks with a map of answers share: a decoder over the maps of the last stages."""

    is_dense = True
    options: DenseOptions

    def __init__(self, name: str, options: DenseOptions) -> None:
        super().__init__(name, options)
        self.taps = TAPS[options.decoder]

    def decoder(self, features: Sequence[FeatureShape], outputs: int, size: Size) -> nn.Module:
        """Maps, or the one map, to [B, outputs, H, W] at the images' `size`."""
        chosen, width, bias = self.options.decoder, self.options.width, self.options.bias
        if chosen == "conv":
            return final_convolution(features[-1].channels, outputs, size, bias)
        if chosen == "deeplab":
            return DeepLabHead(features[-1], outputs, size, width, bias)
        kind = UNetHead if chosen == "unet" else PyramidHead
        return kind(features, outputs, size, width, bias)

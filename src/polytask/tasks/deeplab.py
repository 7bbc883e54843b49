"""A DeepLab head: the last map at several scales at once, by dilated convolutions."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from polytask.tasks.task import FeatureShape
from polytask.tasks.unet import final_convolution

RATES = (6, 12, 18)
SIDE = 33  # of the map that those dilations are meant for: 513 pixels at stride 16


class DeepLabHead(nn.Module):
    """Map [B, C, H', W'] → [B, outputs, H, W] at `size` (height, width), by torchvision's ASPP.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017
    (DeepLabv3), §3.3.
    Differs from the paper: dilations shrink with the map, since beyond its border a dilated
    convolution reads only padding; the backbone keeps its own stride.
    """

    def __init__(
        self,
        feature: FeatureShape,
        outputs: int,
        size: tuple[int, int],
        width: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        share = min(1.0, min(feature.height, feature.width) / SIDE)
        self.pyramid = ASPP(feature.channels, [max(1, round(r * share)) for r in RATES], width)
        self.scores = final_convolution(width, outputs, size, bias)

    def forward(self, feature: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.pyramid(feature))
        return scores

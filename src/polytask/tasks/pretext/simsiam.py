"""SimSiam: from one view of an image, predict the embedding of another; nothing is told apart.

Source: Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, eq. 1 to 3.
Differs from the paper: the loss is 1 − cos in place of −cos, as balancers expect none below 0;
narrower layers (D = 128 instead of 2048), views without blur and hue, and batch statistics over
both views together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.tasks.pretext.two_views import Projection, TwoViews, TwoViewsOptions, by_view
from polytask.tasks.task import FeatureShape, Size


class SimsiamOptions(TwoViewsOptions):
    """The predictor."""

    bottleneck: int = Field(32, ge=1, le=65536, description="hidden width of the predictor")


class Simsiam(TwoViews):
    """Predicts a dict of `z` [B, 2, D] and `p` [B, 2, D], what each view predicts of the other."""

    Options = SimsiamOptions
    options: SimsiamOptions

    def head(self, features: Sequence[FeatureShape], size: Size) -> nn.Module:
        del size
        chosen = self.options
        return SimsiamHead(features[-1].channels, chosen.hidden, chosen.outputs, chosen.bottleneck)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        del target
        loss = symmetric_loss(prediction["p"], prediction["z"])
        return loss, torch.ones_like(loss)


def symmetric_loss(p: Tensor, z: Tensor) -> Tensor:
    """1 − ½ cos(p₁, z₂) − ½ cos(p₂, z₁) of p and z [B, 2, D] → [B]; z gets no gradient."""
    return 1 - F.cosine_similarity(p, z.detach().flip(1), dim=-1).mean(1)


class SimsiamHead(nn.Module):
    """Maps [B, 2, C, H, W] → embeddings and predictions of both views."""

    def __init__(self, inputs: int, hidden: int, outputs: int, bottleneck: int) -> None:
        super().__init__()
        self.projection = Projection([inputs, hidden, hidden, outputs], is_normed=True)
        self.predictor = nn.Sequential(
            nn.Conv2d(outputs, bottleneck, 1, bias=False),
            nn.BatchNorm2d(bottleneck),
            nn.ReLU(inplace=True),
            nn.Conv2d(bottleneck, outputs, 1),
        )

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        z = self.projection(maps)
        return {"z": by_view(z), "p": by_view(self.predictor(z))}

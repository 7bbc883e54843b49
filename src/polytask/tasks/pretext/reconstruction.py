"""Reconstruction: the image again, from the encoder's last map.

Source: Kim, Lee, Song, ICCV Workshops 2019, eq. 5 and 6: the squared error of a sparse
autoencoder, the divergence between the two images as distributions, and conditional entropy as of
Grandvalet and Bengio, "Semi-supervised Learning by Entropy Minimization", NIPS 2004.
Differs from the paper: which distribution an image is, it does not say; here its values divided by
their sum. The sparsity penalty of the autoencoder it cites is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.data.decode import resize
from polytask.data.making import Made, Pixels, Raw
from polytask.tasks.pretext.decoder import Decoder
from polytask.tasks.task import FeatureShape, Pictures, PretextTask, Size, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

DARKEST = 1e-6  # a distribution's logarithm stays finite


class ReconstructionOptions(TaskOptions):
    """The terms beside the squared error."""

    divergence: bool = Field(True, description="add KL between the images as distributions")
    entropy: float = Field(
        1e-3, ge=0, description="weight of the entropy of the reconstruction, which is minimised"
    )


class Reconstruction(PretextTask):
    """Predicts images [B, 3, H, W] from 0 to 1; a target is the image's pixels, uint8."""

    primary = "mse"
    higher_is_better = False
    Options = ReconstructionOptions
    options: ReconstructionOptions

    def make(self, raw: Raw) -> Made:
        pixels = torch.from_numpy(np.ascontiguousarray(raw.pixels))
        return Made(pixels, pixels)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(Decoder(features[-1], 3, size), nn.Sigmoid())

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        image = target.to(prediction.dtype) / 255
        loss = (prediction - image).square().flatten(1).mean(1) / 2
        p = as_distribution(prediction)
        if self.options.divergence:
            loss = loss + (p * (p / as_distribution(image)).log()).sum(1)
        if self.options.entropy:
            loss = loss - self.options.entropy * (p * p.log()).sum(1)
        return loss, torch.ones_like(loss)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanSquaredError, MetricCollection

        return MetricCollection({"mse": MeanSquaredError()})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        # One number each: metrics may not see that channels_last images are not contiguous.
        image = target.to(prediction.dtype) / 255
        return prediction.contiguous(), image.contiguous()

    def tally(self, target: Any) -> Any:
        return target[:, :0]

    def pictures(self, seen: Pixels, prediction: Any, target: Any) -> Pictures:
        right = target[0].permute(1, 2, 0).cpu().numpy()
        (answer,) = as_pictures(prediction, [right.shape[:2]])
        return Pictures(seen[0], right, answer)

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        return [{"image": p.tolist()} for p in as_pictures(prediction, sizes)]


def as_distribution(images: Tensor) -> Tensor:
    """Values [B, …] from 0 to 1 as one distribution an image, [B, N]."""
    values = images.flatten(1).clamp(DARKEST, 1)
    return values / values.sum(1, keepdim=True)


def as_pictures(images: Tensor, sizes: Sequence[Size]) -> list[np.ndarray]:
    """Images [B, 3, H, W] from 0 to 1 as uint8 pixels [h, w, 3] of their own (height, width)."""
    pixels = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [resize(one, size) for one, size in zip(pixels, sizes, strict=True)]

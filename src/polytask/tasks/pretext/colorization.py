"""Colorization: the colours of a grey image, as a distribution over bins of ab.

Source: Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, eq. 2 to 5.
Differs from the paper: the bins are those that sRGB can show at any lightness, whatever the data;
how often each occurs, which the rebalancing needs, is counted on the training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.data.making import Made, Pixels, Raw
from polytask.tasks.pretext.decoder import Decoder
from polytask.tasks.pretext.lab import gamut_bins, to_lab, to_rgb
from polytask.tasks.task import FeatureShape, Pictures, PretextTask, Size, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

NEIGHBOURS = 5  # bins that a colour is spread over
SIGMA = 5.0  # of that spread and of the smoothed frequencies, in units of ab
AT_ONCE = 32  # images whose colours are counted together: 32 of 224 × 224 pixels take 100 MB
SHRINK = 4  # the output has a quarter of the image's sides


class ColorizationOptions(TaskOptions):
    """The bins and how rare colours are weighed."""

    grid: int = Field(10, ge=2, le=60, description="spacing of the bins in ab")
    rebalance: float = Field(
        0.5, ge=0, le=1, description="share of the uniform distribution that frequencies mix with"
    )
    temperature: float = Field(0.38, gt=0, le=1, description="of the annealed mean that is shown")


class Colorization(PretextTask):
    """Predicts logits [B, Q, h, w] of a quarter of the sides; targets are ab [B, 2, h, w]."""

    primary = "ab_error"
    higher_is_better = False
    Options = ColorizationOptions
    options: ColorizationOptions

    def __init__(self, name: str, options: TaskOptions) -> None:
        super().__init__(name, options)
        bins = gamut_bins(self.options.grid)
        self.classes = [f"{a:g} {b:g}" for a, b in bins.tolist()]
        self.bins = torch.from_numpy(bins).float()
        self.weights = torch.ones(len(bins))

    def fit_pixels(self, pixels: np.ndarray) -> None:
        counts = torch.zeros(len(self.bins), dtype=torch.long)
        for first in range(0, len(pixels), AT_ONCE):
            _, ab = grey_and_ab(pixels[first : first + AT_ONCE])
            nearest = torch.cdist(ab.movedim(1, -1).reshape(-1, 2), self.bins).argmin(1)
            counts += torch.bincount(nearest, minlength=len(self.bins))
        frequency = counts.double()
        smoothed = smooth(frequency / frequency.sum(), self.bins.double())
        self.weights = rarity(smoothed, self.options.rebalance).float()

    def make(self, raw: Raw) -> Made:
        grey, ab = grey_and_ab(raw.pixels)
        return Made(grey, ab)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return Decoder(features[-1], len(self.bins), _shrunk(size))

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        ab = target.movedim(1, -1).flatten(0, -2).to(prediction.dtype)
        bins, weights = self.bins.to(ab.device), self.weights.to(ab.device)
        soft, nearest = spread(ab, bins)
        logs = prediction.movedim(1, -1).flatten(0, -2).log_softmax(-1)
        each = -weights[nearest[:, 0]] * (soft * logs.gather(1, nearest)).sum(1)
        cells = prediction.shape[-2] * prediction.shape[-1]
        loss = each.reshape(len(prediction), cells).sum(1)
        return loss, torch.full_like(loss, float(cells))

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanMetric, MetricCollection

        return MetricCollection({"ab_error": MeanMetric()})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        apart = (self.colours(prediction) - target).norm(dim=1)
        return apart, torch.ones_like(apart)

    def tally(self, target: Any) -> Any:
        return target[:, :0]

    def colours(self, prediction: Tensor) -> Tensor:
        """ab [B, 2, h, w]: the annealed mean of the predicted distribution, eq. 5."""
        p = (prediction / self.options.temperature).softmax(1)
        return torch.einsum("bqhw,qc->bchw", p, self.bins.to(p.device, p.dtype))

    def pictures(self, seen: Pixels, prediction: Any, target: Any) -> Pictures:
        grey = seen[0]
        return Pictures(grey, coloured(grey, target), coloured(grey, self.colours(prediction)))

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        return [{"ab": ab.movedim(0, -1).tolist()} for ab in self.colours(prediction)]


def _shrunk(size: Size) -> Size:
    return max(1, size[0] // SHRINK), max(1, size[1] // SHRINK)


def grey_and_ab(pixels: Pixels) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] as lightness, three channels of uint8, and ab [B, 2, H/4, W/4]."""
    lab = to_lab(np.moveaxis(pixels, 1, -1).astype(np.float32) / 255)
    grey = (lab[..., 0] * 2.55).round().clip(0, 255).astype(np.uint8)[:, None]
    ab = torch.from_numpy(np.ascontiguousarray(np.moveaxis(lab[..., 1:], -1, 1))).float()
    size = _shrunk((pixels.shape[2], pixels.shape[3]))
    return torch.from_numpy(np.repeat(grey, 3, axis=1)), F.adaptive_avg_pool2d(ab, size)


def coloured(grey: Pixels, ab: Tensor) -> Pixels:
    """A grey picture [H, W, 3] in the colours ab [1, 2, h, w] of a smaller map."""
    size = (grey.shape[0], grey.shape[1])
    large = F.interpolate(ab.float(), size, mode="bilinear", align_corners=False)[0]
    light = grey[..., :1] / 2.55
    lab = np.concatenate([light, large.permute(1, 2, 0).cpu().numpy()], axis=-1)
    return (to_rgb(lab) * 255).round().astype(np.uint8)


def spread(ab: Tensor, bins: Tensor, neighbours: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Shares [N, k] of each colour (a, b) [N, 2] in its k nearest bins, and their numbers."""
    distance, nearest = torch.cdist(ab, bins).topk(min(neighbours, len(bins)), largest=False)
    weight = (-distance.square() / (2 * SIGMA**2)).exp() + torch.finfo(ab.dtype).tiny
    return weight / weight.sum(1, keepdim=True), nearest


def smooth(frequency: Tensor, bins: Tensor) -> Tensor:
    """Frequencies [Q] spread by a Gaussian over the bins near each."""
    kernel = (-torch.cdist(bins, bins).square() / (2 * SIGMA**2)).exp()
    return (kernel / kernel.sum(0)) @ frequency


def rarity(frequency: Tensor, mix: float) -> Tensor:
    """Weights [Q], inverse to frequencies that are mixed with the uniform distribution.

    w ∝ ((1 − λ) p + λ/Q)⁻¹ with Σ p w = 1, eq. 4.
    """
    mixed = (1 - mix) * frequency + mix / len(frequency)
    weights = 1 / mixed.clamp(min=1e-12)
    return weights / (frequency * weights).sum()

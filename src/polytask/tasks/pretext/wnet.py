"""W-Net: segments that hang together, from which the image can be made again.

Source: Xia and Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017; as a
pretext task with the shared encoder as its first half: Kim, Lee, Song, ICCV Workshops 2019.
Differs from the paper: the first decoder is a feature pyramid, the second net is one level deep;
the cut is taken on the image at a smaller size; both losses are one sum.
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
from polytask.data.overlay import with_mask
from polytask.tasks.pretext.ncut import affinity, soft_ncut
from polytask.tasks.pyramid import PyramidHead, enlarged
from polytask.tasks.task import FeatureShape, Pictures, PretextTask, Size, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class WnetOptions(TaskOptions):
    """The segments and where the cut is taken."""

    segments: int = Field(8, ge=2, le=64, description="segments, K")
    cut_side: int = Field(16, ge=4, le=32, description="longest side at which the cut is taken")
    width: int = Field(32, ge=1, le=4096, description="channels of the two decoders")


class Wnet(PretextTask):
    """Predicts a dict: `segments` [B, K, H, W], which sum to 1, and `image` [B, 3, H, W], made of
    them; a target is the image's pixels, uint8."""

    primary = "ncut"
    higher_is_better = False
    taps = 4
    Options = WnetOptions
    options: WnetOptions

    def make(self, raw: Raw) -> Made:
        pixels = torch.from_numpy(np.ascontiguousarray(raw.pixels))
        return Made(pixels, pixels)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return WnetHead(features, self.options.segments, size, self.options.width)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        image = target.to(prediction["image"].dtype) / 255
        again = (prediction["image"] - image).square().flatten(1).mean(1)
        loss = self.cut(prediction["segments"], target) + again
        return loss, torch.ones_like(loss)

    def cut(self, segments: Tensor, pixels: Tensor) -> Tensor:
        """The soft normalised cut [B], at the smaller size."""
        height, width = segments.shape[-2:]
        factor = min(1.0, self.options.cut_side / max(height, width))
        size = (max(1, round(factor * height)), max(1, round(factor * width)))
        small = F.adaptive_avg_pool2d(segments, size)
        seen = F.adaptive_avg_pool2d(pixels.to(segments.dtype), size)
        return soft_ncut(small.flatten(2), affinity(seen))

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanMetric, MetricCollection

        return MetricCollection({"ncut": MeanMetric()})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        cut = self.cut(prediction["segments"], target)
        return cut, torch.ones_like(cut)

    def tally(self, target: Any) -> Any:
        return target[:, :0]

    def pictures(self, seen: Pixels, prediction: Any, target: Any) -> Pictures:
        del target
        (found,) = self.read(prediction, [(seen.shape[1], seen.shape[2])])
        return Pictures(seen[0], seen[0], with_mask(seen[0], np.asarray(found["mask"])))

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        answers = []
        for one, size in zip(prediction["segments"], sizes, strict=True):
            mask = enlarged(one[None], size).argmax(1)[0]
            counts = mask.flatten().bincount(minlength=len(one)).tolist()
            shares = {f"segment {k}": count / mask.numel() for k, count in enumerate(counts)}
            answers.append({"mask": mask.tolist(), "shares": shares})
        return answers


class WnetHead(nn.Module):
    """Maps of four stages → segments, and the image again from the segments alone."""

    def __init__(
        self, features: Sequence[FeatureShape], segments: int, size: Size, width: int
    ) -> None:
        super().__init__()
        self.segment = PyramidHead(features, segments, size, width)
        self.fine = nn.Conv2d(segments, width, 3, padding=1)
        self.coarse = nn.Conv2d(width, width, 3, padding=1)
        self.image = nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        segments = self.segment(maps).softmax(1)
        fine = F.relu(self.fine(segments))
        coarse = F.relu(self.coarse(F.avg_pool2d(fine, 2, ceil_mode=True)))
        up = enlarged(coarse, (fine.shape[-2], fine.shape[-1]))
        image = self.image(torch.cat([fine, up], dim=1)).sigmoid()
        return {"segments": segments, "image": image}

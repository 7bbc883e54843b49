"""Pretext tasks that let a network say the same of two random views of an image.

Not through lightly, whose losses are means over a batch: ours are per image, so that partial labels
and several processes count right; and importing it asks a server for its newest version.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.config.augment import PRESETS, Augment
from polytask.data.augment import draw_change
from polytask.data.making import Made, Raw
from polytask.randomness import stable_hash
from polytask.tasks.pretext.tiles import greyed
from polytask.tasks.task import PretextTask, Size, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class TwoViewsOptions(TaskOptions):
    """How a view is made, and the widths of the head."""

    view: Augment = Field(
        Augment(**PRESETS["simsiam"]), description="random changes that make a view, or a preset"
    )
    grey: float = Field(0.2, ge=0, le=1, description="share of the views without colour")
    hidden: int = Field(256, ge=1, le=65536, description="width of the projection's inner layers")
    outputs: int = Field(128, ge=2, le=65536, description="numbers in an embedding, D")


class TwoViews(PretextTask, ABC):
    """Predicts a dict that holds `z` [B, 2, D], an embedding of each view; targets are empty.

    Its score is how often a view's nearest among the other views of a scored batch (256 images) is
    that of its own image: 1/256 by chance, also where all embeddings have become one.
    """

    primary = "retrieval"
    Options = TwoViewsOptions
    options: TwoViewsOptions

    @property
    def views(self) -> int:
        return 2

    def make(self, raw: Raw) -> Made:
        shown = [self._view(raw, number) for number in range(self.views)]
        images = torch.from_numpy(np.stack(shown, axis=1)).flatten(0, 1)
        return Made(images, torch.zeros(len(raw), 0))

    def _view(self, raw: Raw, number: int) -> np.ndarray:
        key, size = stable_hash(raw.key, "view", number), raw.pixels.shape[-2:]
        change = draw_change(self.options.view, key, raw.index, raw.passes, size)
        is_grey = raw.share(f"grey {number}")[:, 0] < self.options.grey
        view = greyed(change.images(raw.pixels)[:, None], is_grey)[:, 0]
        return view.round().astype(np.uint8)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanMetric, MetricCollection

        return MetricCollection({"retrieval": MeanMetric()})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        del target
        found = retrieved(prediction["z"])
        return found, torch.ones_like(found)

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        alike = F.cosine_similarity(*prediction["z"].float().unbind(1))
        return [{"likeness": value} for value in alike.tolist()]


def retrieved(z: Tensor) -> Tensor:
    """For embeddings [B, 2, D]: the share of an image's two views that find each other, [B].

    A view that finds several equally near, as all are after a collapse, has found none.
    """
    first, second = F.normalize(z.float(), dim=-1).unbind(1)
    alike = first @ second.T
    own = alike.diagonal()
    others = alike.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return ((own > others.amax(1)).float() + (own > others.amax(0)).float()) / 2


class Projection(nn.Module):
    """Maps [B, V, C, H, W] → [B·V, D, 1, 1]: the mean over cells, then fully connected layers with
    batch norm and ReLU between them, written as 1×1 convolutions."""

    def __init__(self, widths: Sequence[int], is_normed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[: -1 if is_normed else -2])

    def forward(self, maps: Tensor) -> Tensor:
        pooled = maps.mean((-2, -1)).flatten(0, 1)
        projected: Tensor = self.layers(pooled[..., None, None])
        return projected


def by_view(rows: Tensor) -> Tensor:
    """[B·2, D, 1, 1] → [B, 2, D]."""
    return rows.reshape(len(rows) // 2, 2, rows.shape[1])

"""Pretext tasks whose answer is one of K classes, which the views of an image tell together.

Source: softmax cross-entropy and one fully connected head on all patches, as Doersch, Gupta, Efros,
"Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.tasks.task import FeatureShape, PretextTask, Size, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class PuzzleOptions(TaskOptions):
    """What every puzzle has."""

    hidden: int = Field(128, ge=1, le=65536, description="width of the hidden layer in the head")


class Puzzle(PretextTask, ABC):
    """Predicts logits [B, K]; targets are class numbers [B]. Subclasses set `classes`."""

    primary = "accuracy"
    Options = PuzzleOptions
    options: PuzzleOptions

    @property
    def cells(self) -> int:
        """Cells a side that a view's map is averaged to: one unless places in a view tell."""
        return 1

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        del size
        width = self.views * features[-1].channels * self.cells**2
        return PuzzleHead(width, self.options.hidden, len(self.classes), self.cells)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(prediction, target, reduction="none")
        return loss, torch.ones_like(loss)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        return MetricCollection(
            {"accuracy": MulticlassAccuracy(len(self.classes), average="micro")}
        )

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        probability, best = prediction.float().softmax(-1).max(-1)
        return [
            {"class": self.classes[k], "probability": p}
            for k, p in zip(best.tolist(), probability.tolist(), strict=True)
        ]

    def captions(self, target: Any) -> list[str]:
        return [self.classes[i] for i in target.tolist()]

    def chance(self, tallies: Any) -> dict[str, float]:
        if not len(tallies):
            return {}
        return {"accuracy": float(torch.bincount(tallies).max() / len(tallies))}


class PuzzleHead(nn.Module):
    """Maps [B, V, C, H, W] (or [B, C, H, W] of one view) → logits [B, K].

    Each view's map is averaged to `cells` × `cells`; a hidden layer reads all views in their order.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, cells: int = 1) -> None:
        super().__init__()
        self.cells = cells
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
        )

    def forward(self, maps: Tensor) -> Tensor:
        one = self.cells == 1
        pooled = maps.mean((-2, -1)) if one else F.adaptive_avg_pool2d(maps, self.cells)
        logits: Tensor = self.layers(pooled.flatten(1))
        return logits

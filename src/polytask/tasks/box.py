"""One box an image, scored by the mean intersection over union with the true one.

Source: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression",
AAAI 2020, for the default loss; GIoU, IoU and L1 are options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.data.images import ImageSet
from polytask.errors import Fault
from polytask.tasks.box_losses import LOSSES, iou
from polytask.tasks.columns import cells_of, raise_faults
from polytask.tasks.head import Activation, Hidden, linear_layers
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class BoxOptions(TaskOptions):
    """Four columns: left, upper, right and lower edge in pixels of the image's file.

    Edges count from the left upper corner of the upright picture; right and lower are the first
    beyond the object.
    """

    label: list[str] = Field(
        ["x0", "y0", "x1", "y1"], min_length=4, max_length=4, description="columns of the edges"
    )
    loss: Literal["l1", "iou", "giou", "diou"] = Field("diou", description="what is minimised")
    hidden: Hidden = Field(
        128, description="width of a hidden layer in the head, or a list of them"
    )
    grid: int = Field(
        4,
        ge=1,
        le=64,
        description="the head reads about so many cells a side: place must stay known",
    )
    activation: Activation = Field("relu", description="between the layers of the head")


class Box(Task):
    """Predicts boxes [B, 4] as parts of the image's width and height, from 0 to 1.

    A target is a dict with `boxes` [R, 4] in pixels of the network's image and its `size` [R, 2],
    width and height. A box that a crop left nothing of has weight 0.
    """

    primary = "iou"
    chooses = False
    Options = BoxOptions
    options: BoxOptions

    def read_labels(self, images: ImageSet) -> Labels:
        columns = [cells_of(images, column, self.name) for column in self.options.label]
        boxes = np.zeros((len(images), 4))
        present = np.zeros(len(images), bool)
        faults = []
        for i, cells in enumerate(zip(*columns, strict=True)):
            if all(cell is None for cell in cells):
                continue
            problem = self._problem(cells)
            if problem:
                faults.append(Fault(images.place(i), problem))
            else:
                boxes[i], present[i] = [float(cell) for cell in cells], True
        raise_faults(faults)
        return Labels(boxes, present)

    def _problem(self, cells: Sequence[Any]) -> str:
        """What keeps four cells, not all blank, from being a box; nothing where they are one."""
        names = self.options.label
        for name, cell in zip(names, cells, strict=True):
            if cell is None:
                return f"{name}: blank; expected a number, or all of {', '.join(names)} blank."
            if not _is_number(cell):
                return f'{name}: got "{cell}"; expected a number of pixels.'
        x0, y0, x1, y1 = map(float, cells)
        for low, high, names_of_both in ((x0, x1, names[::2]), (y0, y1, names[1::2])):
            if high <= low:
                first, second = names_of_both
                return (
                    f"{first} {low:g} and {second} {high:g}: the box is "
                    f"{'inverted' if high < low else 'empty'}; expected {first} below {second}."
                )
        return ""

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        rows = np.flatnonzero(labels.present & sizes.all(axis=1))
        own = sizes[:, ::-1].astype(float)  # width, height
        first, last = labels.value[rows, :2], labels.value[rows, 2:]
        outside = ((first < 0) | (last > own[rows])).any(axis=1)
        raise_faults(
            [
                Fault(
                    images.place(int(i)),
                    f"box {', '.join(f'{edge:g}' for edge in labels.value[i])} reaches outside "
                    f"its image of {own[i][0]:g} × {own[i][1]:g} pixels.",
                )
                for i in rows[outside]
            ]
        )
        seen = np.array(size[::-1], float)
        boxes = np.zeros((len(images), 4))
        boxes[rows] = labels.value[rows] * np.tile(seen / own[rows], 2)
        return Labels({"boxes": boxes, "size": np.tile(seen, (len(images), 1))}, labels.present)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        del size
        chosen = self.options
        return BoxHead(features[-1], chosen.hidden, chosen.grid, chosen.activation)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        boxes, scale = target["boxes"], target["size"].repeat(1, 2)
        if self.options.loss == "l1":
            loss = LOSSES["l1"](prediction, boxes / scale)
        else:
            loss = LOSSES[self.options.loss](prediction * scale, boxes)
        weight = _has_area(boxes).to(loss.dtype)
        return loss * weight, weight

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanMetric, MetricCollection
        from torchmetrics.classification import BinaryAccuracy

        return MetricCollection({"iou": MeanMetric(), "accuracy_50": BinaryAccuracy(0.5)})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        """The IoU of each box and 1, which weighs it in the mean and says it should be found."""
        inside = prediction.float().clamp(0, 1)  # as a user reads it
        found = iou(inside * target["size"].repeat(1, 2), target["boxes"])
        return found.clamp(0, 1), torch.ones_like(found, dtype=torch.long)

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        scale = torch.tensor(sizes, dtype=torch.float32).flip(1).repeat(1, 2)
        boxes = prediction.float().cpu().clamp(0, 1) * scale
        return [{"box": box} for box in boxes.tolist()]

    def captions(self, target: Any) -> list[str]:
        return [" ".join(f"{edge:.0f}" for edge in box) for box in target["boxes"].tolist()]

    def chance(self, tallies: Any) -> dict[str, float]:
        """The box whose edges are the medians of all."""
        boxes = tallies["boxes"] / tallies["size"].repeat(1, 2)
        if not len(boxes):
            return {}
        return {"iou": float(iou(boxes.median(0).values.expand_as(boxes), boxes).mean())}


class BoxHead(nn.Module):
    """[B, C, H, W] → boxes [B, 4], 0 to 1 around a centre inside the image, never inverted."""

    def __init__(
        self, feature: FeatureShape, hidden: Hidden, grid: int, activation: Activation
    ) -> None:
        super().__init__()
        cell = (max(1, feature.height // grid), max(1, feature.width // grid))
        cells = (feature.height // cell[0]) * (feature.width // cell[1])
        self.layers = nn.Sequential(
            nn.AvgPool2d(cell),
            nn.Flatten(),
            *linear_layers(feature.channels * cells, 4, hidden, activation),
        )

    def forward(self, feature: Tensor) -> Tensor:
        centre, extent = self.layers(feature).sigmoid().chunk(2, dim=1)
        return torch.cat([centre - extent / 2, centre + extent / 2], dim=1)


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _has_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] > boxes[:, :2]).all(1)

"""One number an image, or several, scored by the mean absolute error.

Source: least absolute deviations; numbers are learned in units of their spread, so that tasks
weigh alike whatever they count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from polytask.data.images import ImageSet
from polytask.errors import DataError, Fault
from polytask.tasks.columns import cells_of, raise_faults
from polytask.tasks.head import pooled_head
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class RegressionOptions(TaskOptions):
    """A column of numbers, or several columns."""

    label: list[str] = Field(min_length=1, description="column or columns of the numbers")
    loss: Literal["l1", "l2"] = Field("l1", description="absolute or squared distance")
    hidden: int = Field(0, ge=0, le=65536, description="width of a hidden layer in the head")

    @field_validator("label", mode="before")
    @classmethod
    def _listed(cls, label: Any) -> Any:
        return [label] if isinstance(label, str) else label


class Regression(Task):
    """Predicts numbers [B, K] in the labels' units; targets [R, K], NaN where one is blank.

    `mean` and `spread` [K] are those of the training images; the head carries them.
    """

    primary = "abs_error"
    higher_is_better = False
    chooses = False
    Options = RegressionOptions
    options: RegressionOptions

    def __init__(self, name: str, options: RegressionOptions) -> None:
        super().__init__(name, options)
        self.classes = list(options.label)
        self.mean = torch.zeros(len(self.classes))
        self.spread = torch.ones(len(self.classes))

    def read_labels(self, images: ImageSet) -> Labels:
        value = np.full((len(images), len(self.classes)), np.nan)
        faults = []
        for k, column in enumerate(self.options.label):
            for i, cell in enumerate(cells_of(images, column, self.name)):
                number = _number(cell)
                if number is not None:
                    value[i, k] = number
                elif cell is not None:
                    problem = f'{column}: got "{cell}"; expected a number, or blank.'
                    faults.append(Fault(images.place(i), problem))
        raise_faults(faults)
        return Labels(value=value.astype(np.float32), present=~np.isnan(value).all(axis=1))

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        del sizes, size
        train = labels.value[images.splits.get("train", slice(None))]
        if np.isnan(train).all(axis=0).any():
            raise DataError.at(f"tasks.{self.name}.label", "a column without a training label")
        self.mean = torch.tensor(np.nanmean(train, axis=0, dtype=np.float64)).float()
        spread = torch.tensor(np.nanstd(train, axis=0, dtype=np.float64)).float()
        self.spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        return labels

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        del size
        layers = pooled_head(features[-1].channels, len(self.classes), self.options.hidden)
        return nn.Sequential(layers, InUnits(self.mean, self.spread))

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        known = ~target.isnan()
        apart = (prediction - target.nan_to_num()) / self.spread.to(prediction.device)
        each = apart.abs() if self.options.loss == "l1" else apart.square()
        count = known.sum(1)
        loss = (each * known).sum(1) / count.clamp(min=1)
        return loss, (count > 0).to(loss.dtype)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

        return MetricCollection(
            {"abs_error": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}
        )

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        """All known numbers, one after the other."""
        known = ~target.isnan()
        return prediction[known].float(), target[known]

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        rows = prediction.float().tolist()
        return [{"values": dict(zip(self.classes, row, strict=True))} for row in rows]

    def captions(self, target: Any) -> list[str]:
        return [
            " ".join("–" if math.isnan(x) else f"{x:.3g}" for x in row) for row in target.tolist()
        ]

    def chance(self, target: Any) -> dict[str, float]:
        """The median of each column."""
        if not len(target):
            return {}
        apart = (target - target.nanmedian(0).values).abs()
        return {"abs_error": float(apart[~apart.isnan()].mean())}


class InUnits(nn.Module):
    """Numbers [B, K] of mean 0 and spread 1 → in the units of the labels."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", mean.clone())
        self.register_buffer("spread", spread.clone())

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers * self.spread + self.mean


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None

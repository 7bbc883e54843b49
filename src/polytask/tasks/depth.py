"""A depth a pixel, scored by the mean absolute error.

Source: Eigen, Puhrsch, Fergus, "Depth Map Prediction from a Single Image using a Multi-Scale Deep
Network", NeurIPS 2014, for the errors; L1 as in Liu, Johns, Davison, CVPR 2019 (MTAN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.data.decode import read_values, resize_mask
from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.dense import DenseOptions, DenseTask, sampled
from polytask.tasks.label_maps import check_size, each_map, read_cells
from polytask.tasks.task import FeatureShape, Labels, Size

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

LEAST = 1e-3  # no depth that is predicted is smaller, so that its inverse is finite


class DepthOptions(DenseOptions):
    """A column of depth maps; depth = `scale` · value + `offset`, unknown where the value is 0."""

    label: str = Field("depth", description="column of the maps: PNG of 8 or 16 bits, NPY, arrays")
    scale: float = Field(1.0, gt=0, description="of a map's value: 0.001 for millimetres")
    offset: float = Field(0.0, description="added after scaling, as disparities need it")
    loss: Literal["l1", "inverse"] = Field(
        "l1", description="mean distance of depths, or of their inverses, which near pixels rule"
    )


class Depth(DenseTask):
    """Predicts depths [B, H, W] above 0; a target is a dict with `depth` [R, H, W], 0 if unknown.

    A map of disparities is learned as it stands: they are depths' inverses up to a factor.
    """

    primary = "abs_error"
    higher_is_better = False
    chooses = False
    Options = DepthOptions
    options: DepthOptions

    def read_labels(self, images: ImageSet) -> Labels:
        return read_cells(images, self.options.label, self.name, "depth map")

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        depths = np.zeros((len(images), *size), np.float32)  # rows never written take no memory

        def read(i: int) -> None:
            place, column = images.place(i), self.options.label
            found = read_values(labels.value[i], place)
            if found.ndim != 2:
                problem = f"{column}: the map has {found.shape[2]} numbers a pixel; expected one."
                raise DataError.at(place, problem)
            check_size(found, sizes[i].tolist(), place, column, "depth map")
            depths[i] = resize_mask(self._scaled(found, place), size)

        each_map(np.flatnonzero(labels.present & sizes.all(axis=1)).tolist(), read)
        return Labels({"depth": depths}, labels.present)

    def _scaled(self, values: np.ndarray, place: str) -> np.ndarray:
        known = np.isfinite(values) & (values != 0)
        depths = np.where(known, values, 0) * self.options.scale + self.options.offset * known
        if (depths < 0).any():
            least = float(depths.min())
            problem = f"{self.options.label}: a depth of {least:g}; expected 0 (unknown) or more."
            raise DataError.at(place, problem)
        return np.asarray(depths, np.float32)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(self.decoder(features, 1, size), Positive())

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        depth = target["depth"]
        known = depth > 0
        wanted = torch.where(known, depth, torch.ones_like(depth))  # keeps inverses finite
        if self.options.loss == "inverse":
            each = (1 / prediction - 1 / wanted).abs()
        else:
            each = (prediction - wanted).abs()
        return (each * known).flatten(1).sum(1), known.flatten(1).sum(1).to(each.dtype)

    def metrics(self) -> MetricCollection:
        from torchmetrics import (
            MeanAbsoluteError,
            MeanAbsolutePercentageError,
            MeanSquaredError,
            MetricCollection,
        )

        return MetricCollection(
            {
                "abs_error": MeanAbsoluteError(),
                "rel_error": MeanAbsolutePercentageError(),
                "rmse": MeanSquaredError(squared=False),
            }
        )

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        """The depths of all known pixels, one after the other."""
        known = target["depth"] > 0
        return prediction[known].float(), target["depth"][known]

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        answers = []
        for found, size in zip(prediction.float().cpu().numpy(), sizes, strict=True):
            depth = resize_mask(found, size)
            answers.append({"depth": depth.tolist(), "median_depth": float(np.median(depth))})
        return answers

    def captions(self, target: Any) -> list[str]:
        return [
            f"{float(depth[depth > 0].median()):.2f}" if (depth > 0).any() else "unknown"
            for depth in target["depth"]
        ]

    def tally(self, target: Any) -> Tensor:
        return sampled(target["depth"])

    def chance(self, tallies: Any) -> dict[str, float]:
        """The median depth everywhere."""
        depth = tallies[tallies > 0]
        return {"abs_error": float((depth - depth.median()).abs().mean())} if len(depth) else {}


class Positive(nn.Module):
    """Scores [B, 1, H, W] → depths [B, H, W], above 0 and almost linear from 1 on."""

    def forward(self, scores: Tensor) -> Tensor:
        depth: Tensor = F.softplus(scores[:, 0]) + LEAST
        return depth

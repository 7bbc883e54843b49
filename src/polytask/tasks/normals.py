"""A surface normal a pixel, scored by the mean angle to the true one.

Source: Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common
Multi-Scale Convolutional Architecture", ICCV 2015, for the loss; Fouhey, Gupta, Hebert, ICCV 2013,
for the angles and the shares within 11.25°, 22.5° and 30°.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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

WITHIN = {"within_11_25": 11.25, "within_22_5": 22.5, "within_30": 30.0}
SHORTEST = 0.1  # the components of an 8-bit map's "nothing here", grey or black, are below


class NormalsOptions(DenseOptions):
    """A column of maps of three numbers a pixel: x to the right, then y and z as the data has them;
    where training images are turned, y must point up.

    In an image file a component of −1…1 is written as 0…255 (or 65535); in an array as it is.
    """

    label: str = Field("normals", description="column of the maps: RGB files, NPY, arrays")


class Normals(DenseTask):
    """Predicts unit vectors [B, 3, H, W]; a target is a dict with `normals` [R, 3, H, W].

    Normals are of length 1, or 0 where they are not known. Mirroring an image turns their x.
    """

    primary = "mean_angle"
    higher_is_better = False
    chooses = False
    Options = NormalsOptions
    options: NormalsOptions

    def read_labels(self, images: ImageSet) -> Labels:
        return read_cells(images, self.options.label, self.name, "map of normals")

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        normals = np.zeros((len(images), 3, *size), np.float32)  # rows never written: no memory

        def read(i: int) -> None:
            place, column = images.place(i), self.options.label
            found = read_values(labels.value[i], place)
            if found.ndim != 3 or found.shape[2] != 3:
                problem = f"{column}: got a map {list(found.shape)}; expected [H, W, 3]."
                raise DataError.at(place, problem)
            check_size(found, sizes[i].tolist(), place, column, "map of normals")
            normals[i] = resize_mask(unit_vectors(found), size).transpose(2, 0, 1)

        each_map(np.flatnonzero(labels.present & sizes.all(axis=1)).tolist(), read)
        return Labels({"normals": normals}, labels.present)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(self.decoder(features, 3, size), UnitLength())

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        """1 − cosine at every known pixel."""
        normals = target["normals"]
        known = _is_known(normals).to(prediction.dtype)
        each = (1 - (prediction * normals).sum(1)) * known
        return each.flatten(1).sum(1), known.flatten(1).sum(1)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MeanMetric, MetricCollection

        from polytask.tasks.angles import Median, Within

        return MetricCollection(
            {
                "mean_angle": MeanMetric(),
                "median_angle": Median(),
                **{name: Within(limit) for name, limit in WITHIN.items()},
            },
            compute_groups=False,  # states that are equal after one batch need not stay so
        )

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        """The angle at every known pixel in degrees, and its weight in the mean."""
        angles = angles_between(prediction, target["normals"])
        return angles, torch.ones_like(angles)

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        maps = prediction.float().cpu().permute(0, 2, 3, 1).numpy()
        return [
            {"normals": resize_mask(found, size).round(4).tolist()}
            for found, size in zip(maps, sizes, strict=True)
        ]

    def captions(self, target: Any) -> list[str]:
        return [
            " ".join(f"{part:+.1f}" for part in F.normalize(normals.flatten(1).sum(1), dim=0))
            for normals in target["normals"]
        ]

    def tally(self, target: Any) -> Tensor:
        return sampled(target["normals"])

    def chance(self, tallies: Any) -> dict[str, float]:
        """The mean direction everywhere."""
        if not _is_known(tallies).any():
            return {}
        guess = F.normalize(tallies.sum((0, 2)), dim=0).view(1, 3, 1).expand_as(tallies)
        return {"mean_angle": float(angles_between(guess, tallies).mean())}


class UnitLength(nn.Module):
    """Vectors [B, 3, H, W] of length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        unit: Tensor = F.normalize(vectors, dim=1, eps=1e-6)
        return unit


def unit_vectors(values: np.ndarray) -> np.ndarray:
    """A map [H, W, 3] as vectors of length 1, or 0 where it says nothing."""
    vectors = np.nan_to_num(values.astype(np.float32))
    if values.dtype.kind == "u":
        vectors = vectors * (2 / np.iinfo(values.dtype).max) - 1
        vectors[(values == values[..., :1]).all(axis=2)] = 0  # grey is no direction
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(length > SHORTEST, vectors / np.maximum(length, SHORTEST), 0)


def angles_between(vectors: Tensor, normals: Tensor) -> Tensor:
    """Degrees between unit vectors [B, 3, …] at all pixels where `normals` are known, one list."""
    known = _is_known(normals)
    cosine = (vectors.float() * normals).sum(1)[known]
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def _is_known(normals: Tensor) -> Tensor:
    return (normals != 0).any(1)

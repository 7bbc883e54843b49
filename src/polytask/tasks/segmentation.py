"""One class a pixel, scored by the mean intersection over union of the classes.

Source: cross-entropy per pixel, as every segmentation of the papers compared here; the default
decoder is a light feature pyramid (Lin et al., CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.data.augment import IGNORED
from polytask.data.decode import read_mask, resize_mask
from polytask.data.images import ImageSet
from polytask.errors import DataError, unknown
from polytask.tasks.dense import DenseOptions, DenseTask
from polytask.tasks.label_maps import check_size, each_map, read_cells
from polytask.tasks.task import FeatureShape, Labels, Size, given_classes

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class SegmentationOptions(DenseOptions):
    """A column of masks: value k is `classes[k]`, 255 is ignored."""

    label: str = Field("mask", description="column of the masks: files or arrays")
    values: dict[Annotated[int, Field(ge=0, le=255)], str] | None = Field(
        None, description="mask value to class, where that is not its place; all others are ignored"
    )


class Segmentation(DenseTask):
    """Predicts logits [B, K, H, W]; a target is a dict with `mask` [R, H, W]."""

    primary = "miou"
    Options = SegmentationOptions
    options: SegmentationOptions

    def __init__(self, name: str, options: SegmentationOptions) -> None:
        super().__init__(name, options)
        self.classes = given_classes(options)

    def read_labels(self, images: ImageSet) -> Labels:
        column = self.options.label
        labels = read_cells(images, column, self.name, "mask")
        self.classes = self.classes or list(images.classes.get(column, ()))
        if not 2 <= len(self.classes) <= IGNORED:
            found = f"got {len(self.classes)} classes" if self.classes else "missing"
            raise DataError.at(
                f"tasks.{self.name}.classes",
                f"{found}; expected 2 to {IGNORED}, the k-th being the mask value k (from 0).",
                "For instance: classes: [background, object].",
            )
        self._table = self._read_as()
        return labels

    def _read_as(self) -> np.ndarray:
        """The class of each mask value, [256]: itself unless `values` says otherwise."""
        if self.options.values is None:
            return np.arange(IGNORED + 1, dtype=np.uint8)
        table = np.full(IGNORED + 1, IGNORED, np.uint8)
        for value, name in self.options.values.items():
            if name not in self.classes:
                raise DataError(
                    unknown(f"tasks.{self.name}.values.{value}", "class", name, self.classes)
                )
            table[value] = self.classes.index(name)
        return table

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        masks = np.zeros((len(images), *size), np.uint8)  # rows never written take no memory
        occurs = np.zeros((len(images), len(self.classes)), bool)

        def read(i: int) -> None:
            place = images.place(i)
            mask = self._table[read_mask(labels.value[i], place)]
            check_size(mask, sizes[i].tolist(), place, self.options.label, "mask")
            counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)
            self._check_classes(place, counts)
            occurs[i] = counts[: len(self.classes)] > 0
            masks[i] = resize_mask(mask, size)

        each_map(np.flatnonzero(labels.present & sizes.all(axis=1)).tolist(), read)
        return Labels({"mask": masks}, labels.present, occurs=occurs)

    def _check_classes(self, place: str, counts: np.ndarray) -> None:
        """Refuse a mask whose pixels have these values, `counts` [256]."""
        last = len(self.classes) - 1
        unknown = np.flatnonzero(counts[last + 1 : IGNORED]) + last + 1
        if not len(unknown):
            return
        listed = ", ".join(map(str, unknown[:5])) + (", …" if len(unknown) > 5 else "")
        raise DataError.at(
            place,
            f"{self.options.label}: the mask holds {listed}; expected 0 to {last} "
            f"({self.classes[0]} to {self.classes[last]}), or {IGNORED} where it is to be ignored.",
        )

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return self.decoder(features, len(self.classes), size)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        mask = target["mask"]
        each = F.cross_entropy(prediction, mask, ignore_index=IGNORED, reduction="none")
        return each.flatten(1).sum(1), (mask != IGNORED).flatten(1).sum(1).to(each.dtype)

    def metrics(self) -> MetricCollection:
        from torchmetrics import ClasswiseWrapper, MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

        # Masks were checked when they were read; checking every batch again takes time.
        options: dict[str, Any] = {"ignore_index": IGNORED, "validate_args": False}
        count = len(self.classes)
        each = MulticlassJaccardIndex(count, average="none", **options)
        return MetricCollection(
            {
                "miou": MulticlassJaccardIndex(count, **options),
                "pixel_accuracy": MulticlassAccuracy(count, average="micro", **options),
                "iou": ClasswiseWrapper(each, labels=self.classes, prefix="iou_"),
            }
        )

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        return prediction.argmax(1), target["mask"]

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        answers = []
        for found, size in zip(prediction.argmax(1).to(torch.uint8), sizes, strict=True):
            mask = resize_mask(found.cpu().numpy(), size)
            shares = np.bincount(mask.ravel(), minlength=len(self.classes)) / mask.size
            answers.append(
                {
                    "mask": mask.tolist(),
                    "shares": dict(zip(self.classes, shares.tolist(), strict=True)),
                }
            )
        return answers

    def captions(self, target: Any) -> list[str]:
        return [
            " ".join(self.classes[k] for k in counts.nonzero().flatten().tolist()) or "ignored"
            for counts in self.tally(target)
        ]

    def confusion(self, prediction: Any, target: Any) -> Tensor:
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        found, mask = self.scored(prediction, target)
        return multiclass_confusion_matrix(
            found, mask, len(self.classes), ignore_index=IGNORED, validate_args=False
        )

    def tally(self, target: Any) -> Tensor:
        """Pixels of each class in each mask, [R, K]."""
        mask = target["mask"]
        counts = [(mask == k).flatten(1).sum(1) for k in range(len(self.classes))]
        return torch.stack(counts, dim=1)

    def chance(self, tallies: Any) -> dict[str, float]:
        """One class everywhere: its share of the pixels is its IoU, that of the others is 0."""
        pixels = tallies.sum(0)
        there = int((pixels > 0).sum())
        return {"miou": float(pixels.max() / pixels.sum()) / there} if there else {}

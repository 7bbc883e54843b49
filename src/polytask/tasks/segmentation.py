"""One class a pixel, scored by the mean intersection over union of the classes.

Source: cross-entropy per pixel, as every segmentation of the papers compared here; the default
decoder is a light feature pyramid (Lin et al., CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.data.augment import IGNORED
from polytask.data.decode import read_mask, resize_mask
from polytask.data.images import ImageSet
from polytask.data.store import THREADS
from polytask.errors import DataError, Fault
from polytask.tasks.columns import cells_of, raise_faults
from polytask.tasks.pyramid import PyramidHead
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class SegmentationOptions(TaskOptions):
    """A column of masks: value k is `classes[k]`, 255 is ignored."""

    label: str = Field("mask", description="column of the masks: files or arrays")
    width: int = Field(32, ge=1, le=4096, description="channels of the decoder")


class Segmentation(Task):
    """Predicts logits [B, K, H, W]; a target is a dict with `mask` [R, H, W]."""

    primary = "miou"
    taps = 4
    Options = SegmentationOptions
    options: SegmentationOptions

    def __init__(self, name: str, options: SegmentationOptions) -> None:
        super().__init__(name, options)
        given = options.classes
        if given is not None:
            self.classes = [str(i) for i in range(given)] if isinstance(given, int) else list(given)

    def read_labels(self, images: ImageSet) -> Labels:
        column = self.options.label
        cells = cells_of(images, column, self.name)
        self.classes = self.classes or list(images.classes.get(column, ()))
        if not 2 <= len(self.classes) <= IGNORED:
            found = f"got {len(self.classes)} classes" if self.classes else "missing"
            raise DataError.at(
                f"tasks.{self.name}.classes",
                f"{found}; expected 2 to {IGNORED}, the k-th being the mask value k (from 0).",
                "For instance: classes: [background, object].",
            )
        raise_faults(
            [
                Fault(
                    images.place(i),
                    f'{column}: no image file "{cell}"; expected the path of a mask.',
                    "Paths are relative to the manifest's folder and stay inside it.",
                )
                for i, cell in enumerate(cells)
                if isinstance(cell, str | int | float)
            ]
        )
        return Labels(value=cells, present=np.array([cell is not None for cell in cells]))

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        masks = np.zeros((len(images), *size), np.uint8)  # rows never written take no memory
        occurs = np.zeros((len(images), len(self.classes)), bool)

        def read(i: int) -> Fault | None:
            place = images.place(i)
            try:
                mask = read_mask(labels.value[i], place)
            except DataError as error:
                return error.faults[0]
            counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)
            occurs[i] = counts[: len(self.classes)] > 0
            fault = self._fault(place, mask.shape, tuple(sizes[i].tolist()), counts)
            if fault is None:
                masks[i] = resize_mask(mask, size)
            return fault

        with ThreadPoolExecutor(THREADS) as threads:
            rows = np.flatnonzero(labels.present & sizes.all(axis=1)).tolist()
            raise_faults([fault for fault in threads.map(read, rows) if fault is not None])
        return Labels({"mask": masks}, labels.present, occurs=occurs)

    def _fault(
        self, place: str, size: tuple[int, ...], image: tuple[int, ...], counts: np.ndarray
    ) -> Fault | None:
        """What is wrong with a mask of that (height, width) whose pixels have these values."""
        if size != image:
            return Fault(
                place,
                f"{self.options.label}: the mask has {size[1]} × {size[0]} pixels, its image "
                f"{image[1]} × {image[0]}; expected the same.",
            )
        last = len(self.classes) - 1
        unknown = np.flatnonzero(counts[last + 1 : IGNORED]) + last + 1
        if not len(unknown):
            return None
        listed = ", ".join(map(str, unknown[:5])) + (", …" if len(unknown) > 5 else "")
        return Fault(
            place,
            f"{self.options.label}: the mask holds {listed}; expected 0 to {last} "
            f"({self.classes[0]} to {self.classes[last]}), or {IGNORED} where it is to be ignored.",
        )

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        return PyramidHead(features, len(self.classes), size, self.options.width)

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

"""Any number of boxes an image, each with a class, scored by mean average precision.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016: SSD300 on VGG-16 at 300 pixels;
smaller images get three maps instead of six.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from polytask.data.images import ImageSet
from polytask.errors import ConfigError, DataError, Fault, nearest, one_of
from polytask.tasks.columns import cells_of, class_names, raise_faults
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions, given_classes

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

PARTS = ("offsets", "logits", "priors")
NONE = "none"  # how a table says that an image was looked at and holds no object
Object = tuple[str, float, float, float, float]


class DetectionOptions(TaskOptions):
    """One column; a cell holds all boxes of its image: `cat 3 5 40 62; dog 50 8 90 60`.

    That is class, left, upper, right and lower edge in pixels of the file; `none` where there is
    nothing to find, blank where nobody looked.
    """

    label: str = Field("boxes", description="column of the boxes")
    width: int = Field(256, ge=2, le=4096, description="channels of the maps that the head adds")
    scales: list[float] | None = Field(
        None, description="sizes of the priors of each map, and one more, as shares of the image"
    )
    least: float = Field(0.01, gt=0, lt=1, description="least score of a detection")
    overlap: float = Field(0.45, gt=0, le=1, description="IoU above which the surer one stays")
    shown: float = Field(0.3, gt=0, lt=1, description="least score of what a user reads")

    @field_validator("scales")
    @classmethod
    def _rising(cls, scales: list[float] | None) -> list[float] | None:
        if scales is not None and (sorted(scales) != scales or not scales or scales[0] <= 0):
            raise ValueError("expected rising shares above 0")
        return scales


class Detection(Task):
    """Predicts offsets [B, P, 4] and logits [B, P, 1 + K] of P `priors` [B, P, 4] in pixels of the
    network's image, whose `size` [B, 2], width and height, it repeats.

    A target is a dict with `boxes` [R, M, 4] in pixels of the network's image, `classes` [R, M]
    (−1 beyond the image's own) and `size` [R, 2], width and height. A box that a crop left nothing
    of does not count; an image weighs as many as priors have a box to find.
    """

    primary = "map"
    taps = 2
    Options = DetectionOptions
    options: DetectionOptions

    def __init__(self, name: str, options: DetectionOptions) -> None:
        super().__init__(name, options)
        self.classes = given_classes(options)

    def read_labels(self, images: ImageSet) -> Labels:
        column = self.options.label
        cells = cells_of(images, column, self.name)
        found: list[list[Object] | None] = [None] * len(images)
        faults = []
        for i, cell in enumerate(cells):
            try:
                found[i] = None if cell is None else objects(cell)
            except ValueError as error:
                faults.append(Fault(images.place(i), f"{column}: {error}"))
        raise_faults(faults)
        seen = [thing[0] for things in found for thing in things or ()]
        known = self.classes or list(images.classes.get(column, ())) or class_names(seen)
        if not known:
            raise DataError.at(f"tasks.{self.name}", f'column "{column}" holds no box.')
        self.classes = known
        raise_faults(
            [
                Fault(
                    images.place(i),
                    f'{column}: unknown class "{thing[0]}"; expected {one_of(known)}.',
                    nearest(thing[0], known),
                )
                for i, things in enumerate(found)
                for thing in things or ()
                if thing[0] not in known
            ]
        )
        return self._packed(found)

    def _packed(self, found: Sequence[list[Object] | None]) -> Labels:
        """Rows of equal length, as many as the fullest image has boxes."""
        most = max((len(things) for things in found if things), default=1)
        boxes = np.zeros((len(found), most, 4))
        classes = np.full((len(found), most), -1)
        occurs = np.zeros((len(found), len(self.classes)), bool)
        for i, things in enumerate(found):
            for k, (name, *edges) in enumerate(things or ()):
                boxes[i, k], classes[i, k] = edges, self.classes.index(name)
                occurs[i, classes[i, k]] = True
        present = np.array([things is not None for things in found])
        return Labels({"boxes": boxes, "classes": classes}, present, occurs=occurs)

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        own = np.maximum(sizes[:, ::-1].astype(float), 1)[:, None]  # width, height
        boxes, there = labels.value["boxes"], labels.value["classes"] >= 0
        beyond = np.concatenate([boxes[..., :2] < 0, boxes[..., 2:] > own], axis=2).any(axis=2)
        outside = beyond & there & sizes.all(axis=1, keepdims=True)
        raise_faults(
            [
                Fault(
                    images.place(int(i)),
                    f"box {', '.join(f'{edge:g}' for edge in boxes[i, k])} reaches outside its "
                    f"image of {own[i, 0, 0]:g} × {own[i, 0, 1]:g} pixels.",
                )
                for i, k in np.argwhere(outside)
            ]
        )
        seen = np.array(size[::-1], float)
        value = {
            "boxes": boxes * np.tile(seen / own, 2),
            "classes": labels.value["classes"],
            "size": np.tile(seen, (len(images), 1)),
        }
        return Labels(value, labels.present, occurs=labels.occurs)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        from polytask.tasks.ssd import SSD, scales_at

        scales, wanted = self.options.scales, len(scales_at(size))
        if scales is not None and len(scales) != wanted:
            problem = f"got {len(scales)} numbers; expected {wanted} for images of this size, one "
            problem += "for each map and one more."
            raise ConfigError.at(f"tasks.{self.name}.scales", problem)
        return SSD(features, size, len(self.classes), self.options.width, scales)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        from polytask.tasks.ssd import ssd_loss

        losses, weights = [], []
        for i, true in enumerate(_true(target)):
            offsets, logits, priors = (prediction[key][i] for key in PARTS)
            loss, positives = ssd_loss(offsets, logits, priors, true["boxes"], true["classes"])
            losses.append(loss)
            weights.append(positives)
        if not losses:
            empty = prediction["logits"].sum((1, 2))
            return empty, empty.detach()
        return torch.stack(losses), torch.stack(weights).to(losses[0].dtype)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from polytask.tasks.average_precision import AveragePrecision

        return MetricCollection({"found": AveragePrecision(len(self.classes))})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        return self._detected(prediction), _true(target)

    def _detected(self, prediction: Any) -> list[dict[str, Tensor]]:
        from polytask.tasks.ssd import detections

        if not len(prediction["size"]):
            return []
        width, height = (int(edge) for edge in prediction["size"][0].tolist())
        rows = zip(*(prediction[key].float() for key in PARTS), strict=True)
        least, overlap = self.options.least, self.options.overlap
        return [detections(o, c, p, (height, width), least, overlap) for o, c, p in rows]

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        answers = []
        rows = zip(self._detected(prediction), prediction["size"].cpu(), sizes, strict=True)
        for found, seen, (height, width) in rows:
            boxes = found["boxes"].cpu() * (torch.tensor([width, height]) / seen).repeat(2)
            told = zip(
                boxes.tolist(), found["scores"].tolist(), found["classes"].tolist(), strict=True
            )
            answers.append(
                {
                    "boxes": [
                        {"class": self.classes[label], "score": score, "box": box}
                        for box, score, label in told
                        if score >= self.options.shown
                    ]
                }
            )
        return answers

    def captions(self, target: Any) -> list[str]:
        counts = [torch.bincount(t["classes"], minlength=len(self.classes)) for t in _true(target)]
        return [
            " ".join(f"{n} {c}" for n, c in zip(count.tolist(), self.classes, strict=True) if n)
            or NONE
            for count in counts
        ]


def _true(target: Any) -> list[dict[str, Tensor]]:
    """The boxes and classes of each image, without what pads its row or was cropped away."""
    boxes, classes = target["boxes"], target["classes"]
    there = (classes >= 0) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    rows = zip(boxes, classes, there, strict=True)
    return [{"boxes": b[keep], "classes": c[keep]} for b, c, keep in rows]


def objects(cell: Any) -> list[Object]:
    """The objects that a cell tells of: its text, or a list of (class, x0, y0, x1, y1).

    Raises:
        ValueError: with what is wrong, and what was expected.
    """
    if isinstance(cell, str):
        parts = [] if cell.strip().lower() == NONE else [p for p in cell.split(";") if p.strip()]
        told = [tuple(part.rsplit(maxsplit=4)) for part in parts]
    elif isinstance(cell, list | tuple):
        told = [tuple(part) for part in cell]
    else:
        raise ValueError(f"got {cell!r}; expected boxes such as: cat 3 5 40 62; dog 50 8 90 60.")
    return [_object(parts) for parts in told]


def _object(parts: tuple[Any, ...]) -> Object:
    written = " ".join(map(str, parts))
    try:
        name, *edges = parts
        x0, y0, x1, y1 = map(float, edges)
    except (ValueError, TypeError):
        raise ValueError(
            f'got "{written}"; expected a class and four numbers of pixels, or {NONE}.'
        ) from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
        raise ValueError(f'the box of "{written}" is empty or inverted; expected x0 < x1, y0 < y1.')
    return str(name).strip(), x0, y0, x1, y1

"""One class an image, scored by top-1 accuracy.

Source: softmax cross-entropy, the loss of every classification task of the papers compared here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.data.images import ImageSet
from polytask.errors import DataError, Fault, nearest, one_of
from polytask.tasks.columns import cells_of, class_names, raise_faults
from polytask.tasks.head import Activation, Hidden, pooled_head
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions, given_classes

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class ClassificationOptions(TaskOptions):
    """A column of class names, or of numbers."""

    label: str | None = Field(None, description="column of the class; the source's own by default")
    values: dict[str, str] | None = Field(
        None, description="class that a value of the column stands for; itself by default"
    )
    hidden: Hidden = Field(0, description="width of a hidden layer in the head, or a list of them")
    grid: int = Field(1, ge=1, le=64, description="the head reads so many cells a side")
    activation: Activation = Field("relu", description="between the layers of the head")


class Classification(Task):
    """Predicts logits [B, K]; targets are class numbers [R]."""

    primary = "accuracy"
    Options = ClassificationOptions
    options: ClassificationOptions

    def __init__(self, name: str, options: ClassificationOptions) -> None:
        super().__init__(name, options)
        self.classes = given_classes(options) or list(
            dict.fromkeys((options.values or {}).values())
        )

    def read_labels(self, images: ImageSet) -> Labels:
        column = self.options.label or images.default_label
        if column is None:
            raise DataError(
                Fault(
                    f"tasks.{self.name}.label",
                    f'missing; data set "{images.name}" has the columns '
                    f"{', '.join(images.columns)}",
                )
            )
        cells = cells_of(images, column, self.name)
        if self.options.values is not None:
            cells = [c if c is None else self.options.values.get(str(c), c) for c in cells]
        elif self.options.classes is None:
            self.classes = list(images.classes.get(column, ())) or class_names(cells)
        if len(self.classes) < 2:
            raise DataError(
                Fault(
                    f"tasks.{self.name}",
                    f'column "{column}" of data set "{images.name}" has {len(self.classes)} '
                    "classes; expected 2 or more",
                )
            )
        numbers = {name: i for i, name in enumerate(self.classes)}
        found = np.array([-1 if c is None else numbers.get(str(c), -2) for c in cells])
        raise_faults(
            [
                Fault(
                    images.place(int(i)),
                    f'{column}: unknown class "{cells[i]}"; expected {one_of(self.classes)}.',
                    nearest(str(cells[i]), self.classes),
                )
                for i in np.flatnonzero(found == -2)
            ]
        )
        return Labels(value=found.astype(np.int64), present=found >= 0, strata=found)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        del size
        chosen = self.options
        return pooled_head(
            features[-1].channels,
            len(self.classes),
            chosen.hidden,
            chosen.grid,
            chosen.activation,
        )

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(prediction, target, reduction="none")
        return loss, torch.ones_like(loss)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from polytask.tasks.macro import MeanClassAccuracy

        classes = len(self.classes)
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "mean_class_accuracy": MeanClassAccuracy(classes),
            }
        )

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        answers = []
        for row in prediction.float().softmax(-1).tolist():
            best = max(range(len(row)), key=row.__getitem__)
            answers.append(
                {
                    "class": self.classes[best],
                    "probability": row[best],
                    "probabilities": dict(zip(self.classes, row, strict=True)),
                }
            )
        return answers

    def captions(self, target: Any) -> list[str]:
        return [self.classes[i] for i in target.tolist()]

    def confusion(self, prediction: Any, target: Any) -> Tensor:
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        return multiclass_confusion_matrix(prediction, target, len(self.classes))

    def chance(self, target: Any) -> dict[str, float]:
        if not len(target):
            return {}
        return {"accuracy": float(torch.bincount(target).max() / len(target))}

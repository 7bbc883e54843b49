"""Several yes/no attributes an image, scored by accuracy averaged over the attributes.

Source: binary cross-entropy per attribute, as for the face attributes of Park, Lee, Kim, IEEE
Access 2022.

Differs from the paper: an image may lack any of the attributes; it then counts for the others.
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
from polytask.errors import Fault
from polytask.tasks.columns import cells_of, raise_faults
from polytask.tasks.head import pooled_head
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

YES = {"1", "1.0", "true", "yes"}
NO = {"0", "0.0", "false", "no"}
BLANK = -1


class MultilabelOptions(TaskOptions):
    """One column an attribute, its cells 0, 1 or blank."""

    label: list[str] = Field(min_length=1, description="columns of the attributes")
    hidden: int = Field(0, ge=0, le=65536, description="width of a hidden layer in the head")


class Multilabel(Task):
    """Predicts logits [B, K]; targets [R, K] are 1, 0, or −1 where an attribute is blank."""

    primary = "accuracy"
    Options = MultilabelOptions
    options: MultilabelOptions

    def __init__(self, name: str, options: MultilabelOptions) -> None:
        super().__init__(name, options)
        self.classes = list(options.label)

    def read_labels(self, images: ImageSet) -> Labels:
        value = np.full((len(images), len(self.classes)), BLANK, dtype=np.int64)
        faults = []
        for k, column in enumerate(self.options.label):
            for i, cell in enumerate(cells_of(images, column, self.name)):
                said = None if cell is None else str(cell).strip().lower()
                if said in YES or said in NO:
                    value[i, k] = said in YES
                elif said is not None:
                    faults.append(
                        Fault(images.place(i), f'{column}: got "{cell}"; expected 0, 1 or blank')
                    )
        raise_faults(faults)
        present = (value != BLANK).any(axis=1)
        return Labels(value=value, present=present, occurs=value == 1)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        del size
        return pooled_head(features[-1].channels, len(self.classes), self.options.hidden)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        known = (target != BLANK).to(prediction.dtype)
        wanted = target.clamp(min=0).to(prediction.dtype)
        each = F.binary_cross_entropy_with_logits(prediction, wanted, reduction="none")
        loss = (each * known).sum(1) / known.sum(1).clamp(min=1)
        return loss, (known.sum(1) > 0).to(loss.dtype)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from polytask.tasks.macro import MeanAttributeAccuracy

        return MetricCollection({"accuracy": MeanAttributeAccuracy(len(self.classes), BLANK)})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        return prediction.float().sigmoid(), target

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        return [
            {
                "labels": [name for name, p in zip(self.classes, row, strict=True) if p > 0.5],
                "probabilities": dict(zip(self.classes, row, strict=True)),
            }
            for row in prediction.float().sigmoid().tolist()
        ]

    def captions(self, target: Any) -> list[str]:
        return [
            " ".join(name for name, on in zip(self.classes, row, strict=True) if on == 1) or "none"
            for row in target.tolist()
        ]

    def chance(self, target: Any) -> dict[str, float]:
        known = (target != BLANK).sum(0)
        yes = ((target == 1).sum(0) / known)[known > 0]
        return {"accuracy": float(torch.maximum(yes, 1 - yes).mean())} if len(yes) else {}

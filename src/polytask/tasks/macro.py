"""Accuracies that are means over classes or attributes: over those that the images have labels of.

torchmetrics counts a class without images as 0 once an answer names it, and an attribute without
labels always.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy


class MeanClassAccuracy(MulticlassAccuracy):
    """The mean over classes of the share of a class's images that are taken for it."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, average="none")

    def compute(self) -> Tensor:
        """The mean; NaN without any image."""
        share: Tensor = super().compute()
        images = torch.as_tensor(self.tp) + torch.as_tensor(self.fn)
        return share[images > 0].mean()


class MeanAttributeAccuracy(Metric):
    """The mean over attributes of the share of known labels that are answered rightly."""

    full_state_update = False
    right: Tensor
    known: Tensor

    def __init__(self, attributes: int, blank: int) -> None:
        super().__init__()
        self.blank = blank
        for name in ("right", "known"):
            none = torch.zeros(attributes, dtype=torch.long)
            self.add_state(name, none, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Count answers [R, K], yes above 0.5, to targets [R, K] of 1, 0 or blank."""
        known = target != self.blank
        self.known += known.sum(0)
        self.right += (((probabilities > 0.5) == (target == 1)) & known).sum(0)

    def compute(self) -> Tensor:
        """The mean; NaN without any label."""
        return (self.right / self.known)[self.known > 0].mean()

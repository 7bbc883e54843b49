"""Metrics of a list of angles that torchmetrics has not: the median, and shares below a limit."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric

STEP = 0.01  # degrees: how fine the median is
BINS = round(180 / STEP)


class Median(Metric):
    """The median of all angles (0 to 180) to a hundredth of a degree, from counts alone."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.counts: Tensor
        self.add_state("counts", torch.zeros(BINS, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, angles: Tensor, weight: Tensor | None = None) -> None:
        """Count angles, all alike."""
        del weight
        bins = (angles / STEP).long().clamp(0, BINS - 1)
        self.counts += torch.bincount(bins, minlength=BINS)

    def compute(self) -> Tensor:
        """The middle of the step that holds the median."""
        if not self.counts.any():
            return torch.tensor(torch.nan)
        middle = (self.counts.sum() + 1) // 2
        return (torch.searchsorted(self.counts.cumsum(0), middle) + 0.5) * STEP


class Within(MeanMetric):
    """The share of angles below a limit in degrees."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def update(self, value: float | Tensor, weight: float | Tensor | None = None) -> None:
        """Count angles."""
        super().update((torch.as_tensor(value) < self.limit).float(), weight)

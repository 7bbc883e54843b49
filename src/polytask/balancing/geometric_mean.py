"""Geometric mean: the K-th root of the product of the task losses, free of their scales.

Source: Chennupati et al., "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
for Multi-Task Learning", CVPR Workshops 2019, eq. 2.

Differs from the paper: the mean is over the tasks present in the step, and no loss counts as less
than 10⁻⁸, so that a task that is done does not stop the others. torchjd's `GeometricMean` gives NaN
for a loss of 0, and would take the mean of each process's losses instead of the global ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from polytask.balancing import Balancer

LEAST, MOST = 1e-8, 1e8


class GeometricMean(Balancer):
    """Weights G / (K · L): what makes Σ weight · ∇L the gradient of G, the geometric mean."""

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        logs = {task: math.log(min(max(loss, LEAST), MOST)) for task, loss in losses.items()}
        mean = math.fsum(logs.values()) / max(1, len(logs))
        return {task: math.exp(mean - log) / len(logs) for task, log in logs.items()}

"""Task-specific feature filter: a gate per channel on the features one task reads.

Source: Lee et al., "Multi-Task Learning with Task-Specific Feature Filtering in Low-Data
Condition", Electronics 2021, 10, 2691, eq. 2.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

# sigmoid(20) rounds to 1 in float32, so that the identity start passes features on unchanged.
STARTS = {"zeros": (0.0, 0.0), "ones": (1.0, 0.0), "identity": (0.0, 20.0)}


class FilterOptions(BaseModel):
    """How filters start: `zeros` (gate 0.5), `ones` (SiLU) or `identity` (gate 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    init: Literal["zeros", "ones", "identity"] = Field("zeros", description="start of α and β")


class FeatureFilter(nn.Module):
    """F ⊙ sigmoid(F ⊙ α + β) on maps [..., C, H, W], with 2·C parameters.

    The gate depends on the feature, so the sigmoid is taken per element; only α and β are per
    channel. It sits before pooling, on the task's own branch.
    """

    elementwise = 3  # operations per element that the cost model reports: ⊙ α, + β, ⊙ F

    def __init__(self, channels: int, options: FilterOptions | None = None) -> None:
        super().__init__()
        alpha, beta = STARTS[(options or FilterOptions()).init]
        self.alpha = nn.Parameter(torch.full((channels, 1, 1), alpha))
        self.beta = nn.Parameter(torch.full((channels, 1, 1), beta))

    def gate(self, features: Tensor) -> Tensor:
        """The gate in (0, 1), of the features' shape."""
        return torch.sigmoid(torch.addcmul(self.beta, features, self.alpha))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gate(features)

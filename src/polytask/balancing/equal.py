"""Equal weighting: the sum of the task losses.

Source: the loss of Lee et al., Electronics 2021, as its text says (a sum of all task losses).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polytask.balancing import Balancer


class Equal(Balancer):
    """Every task counts once."""

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return dict.fromkeys(losses, 1.0)

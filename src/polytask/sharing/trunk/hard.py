"""Hard parameter sharing: one trunk, every head on its last features.

Source: Caruana, "Multitask Learning", Machine Learning 1997.
"""

from __future__ import annotations

from torch import nn

from polytask.sharing.trunk.phases import OnePhase


class Hard(OnePhase):
    """The trunk family's defaults: every task runs the whole trunk and reads its last map."""

    def representation(self) -> nn.Module | None:
        """The unit whose output is all that heads read (aggregation), if they read one map."""
        read = {unit for task in self.tasks for unit in self.taps(task)}
        return self.backbone.unit(read.pop()) if len(read) == 1 else None

"""When and how the state of a run is saved: often enough, whole, and never with broken weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polytask.errors import Diverged
from polytask.training import checkpoint

# Seconds of training between two saves: saving takes at most a fiftieth of the time, but is done
# every 25 seconds at the latest.
SECONDS = (3.0, 25.0)
SHARE = 50


class Saving:
    """The saved state of a run folder; `writes` is false in all processes of a run but the first.

    Durations are those of a clock that nobody can set.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self.folder, self.writes = folder, writes
        self.saved_at = time.monotonic()
        self.every = SECONDS[0]

    @property
    def is_due(self) -> bool:
        """Whether the last save was long ago."""
        return self.writes and time.monotonic() - self.saved_at > self.every

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Write what `state` gives."""
        if not self.writes:
            return
        began = time.monotonic()
        checkpoint.save_state(self.folder, state())
        self.saved_at = time.monotonic()
        least, most = SECONDS
        self.every = min(most, max(least, SHARE * (self.saved_at - began)))


def check_finite(module: nn.Module, step: int) -> None:
    """Refuse weights that are not finite: a run that went on from them could not be saved.

    Raises:
        Diverged: a gradient was NaN or infinite.
    """
    norms = [p.detach().abs().max() for p in module.parameters() if p.numel()]
    worst = float(torch.stack([norm.float().cpu() for norm in norms]).max()) if norms else 0.0
    if not math.isfinite(worst):
        raise Diverged("gradient", step, worst)

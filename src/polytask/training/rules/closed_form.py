"""Closed-form fitting: the method solves for its parameters from the data, once.

Source: what MTDA (Zhang and Yeung, AAAI 2011) and other eigenproblems need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from polytask.batch import Batch
from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


class Rule(UpdateRule):
    """Calls the method's `fit(batches)` with one epoch of batches, as a single step."""

    def steps(self, loop: Loop) -> int:
        return 1

    def run(self, loop: Loop, start: int) -> None:
        if start == 0:
            loop.method.before_forward(loop)
            fit: Callable[[Iterator[Batch]], None] = loop.method.fit  # type: ignore[assignment]
            fit(batch.to(loop.world.device) for batch in self.batches(loop, 0))
            loop.tick()

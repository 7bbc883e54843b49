"""Joint training: one update per batch from the losses of all tasks present."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


class Rule(UpdateRule):
    """Every batch gives one step of all trainable parameters."""

    def run(self, loop: Loop, start: int) -> None:
        for batch in self.batches(loop, start):
            loop.step(batch)
            loop.tick()

"""Sequential updates: within a step, one update per task in turn instead of one for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


class Rule(UpdateRule):
    """Every batch gives one step per present task, from that task's loss alone."""

    def run(self, loop: Loop, start: int) -> None:
        for batch in self.batches(loop, start):
            for task in batch.tasks:
                loop.step(batch.of([task]))
            loop.tick()

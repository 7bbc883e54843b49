"""Sequential updates: within a step, one update per task in turn instead of one for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.batch import Batch, Group
from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


class Rule(UpdateRule):
    """Every batch gives one step per present task, from that task's loss alone."""

    def run(self, loop: Loop, start: int) -> None:
        for batch in self.batches(loop, start):
            for task in batch.tasks:
                loop.step(only_task(batch, task))
            loop.tick()


def only_task(batch: Batch, task: str) -> Batch:
    """The group of one task, with its target alone."""
    return Batch(
        [
            Group(g.images, g.index, g.stream, {task: g.targets[task]}, g.views)
            for g in batch.groups
            if task in g.targets
        ]
    )

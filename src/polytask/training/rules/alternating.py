"""Alternating updates: groups of parameters take turns, as weights and policies do.

Source: the schedule of Sun et al., "AdaShare", NeurIPS 2020, in its general form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


class Rule(UpdateRule):
    """`members` are patterns of parameter names; each is stepped for `period` batches in turn.

    A member may have its own share of the images: `parts`, one [start, stop) each, which makes the
    members take turns by epoch rather than by batch.
    """

    def __init__(
        self,
        members: list[str],
        period: int = 1,
        parts: list[tuple[float, float]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.members = members
        self.period = period
        self.parts = parts

    def part(self, loop: Loop) -> tuple[float, float]:
        return self.parts[loop.epoch % len(self.parts)] if self.parts else loop.phase.part

    def run(self, loop: Loop, start: int) -> None:
        for at, batch in enumerate(self.batches(loop, start), start):
            turn = loop.epoch if self.parts else at // self.period
            pattern = self.members[turn % len(self.members)]
            loop.step(batch, only=pattern)
            loop.tick()

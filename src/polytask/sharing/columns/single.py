"""Every task alone: one network per task, the baseline that all verdicts are against.

Source: the single-task networks (STL) of every paper compared here; the sample-matched control is
ours.
"""

from __future__ import annotations

from polytask.phase import Phase, Schedule
from polytask.sharing.columns import Columns


class Single(Columns):
    """Columns without links: no parameter is shared, no image of another task is seen.

    With `match: samples` the columns train side by side on the very batches that the sharing
    methods see, each on its own rows, so that every network gets as many images of its task, in the
    same order and over as many updates. With `match: epochs` (the papers' protocol) each network
    trains in a phase of its own, for the same number of passes over its own data set.
    """

    def plan(self, schedule: Schedule) -> list[Phase]:
        if schedule.match == "samples":
            return [Phase(epochs=schedule.epochs)]
        return [
            Phase(
                name=f"single_{task}",
                epochs=schedule.epochs,
                tasks=(task,),
                trainable=(rf"columns\.{task}\.", rf"heads\.{task}\."),
            )
            for task in self.tasks
        ]

"""What a search found: its trials, the front of score against cost, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.budget import Unit
from polytask.search.study import Trial

CHOSEN, FOUND = "chosen.yaml", "search.json"


@dataclass(frozen=True)
class Found:
    """All trials of a search by number, the front, and the trial that was chosen.

    `higher_is_better` is of each task's own score; that of a trial is larger where better.
    """

    folder: Path
    unit: Unit
    higher_is_better: Mapping[str, bool]
    trials: list[Trial]
    front: list[Trial]
    chosen: Trial | None

    @classmethod
    def of(
        cls, folder: Path, unit: Unit, higher_is_better: Mapping[str, bool], trials: list[Trial]
    ) -> Found:
        """Choose the best of the front, which of equal ones is the cheapest."""
        front = frontier([trial for trial in trials if trial.outcome == "done"])
        chosen = front[-1] if front else None
        return cls(folder, unit, higher_is_better, trials, front, chosen)

    def as_dict(self) -> dict[str, Any]:
        """The content of `search.json`."""
        return {
            "unit": self.unit,
            "higher_is_better": dict(self.higher_is_better),
            "trials": [trial.as_dict() for trial in self.trials],
            "front": [trial.number for trial in self.front],
            "chosen": None if self.chosen is None else self.chosen.number,
            "config": None if self.chosen is None else CHOSEN,
        }


def frontier(trials: list[Trial]) -> list[Trial]:
    """The trials that no cheaper or equally cheap one equals or beats, cheapest first."""
    best: list[Trial] = []
    key: Callable[[Trial], tuple[float, float]] = lambda t: (t.cost or 0.0, -(t.score or 0.0))  # noqa: E731
    for trial in sorted(trials, key=key):
        if not best or (trial.score or 0.0) > (best[-1].score or 0.0):
            best.append(trial)
    return best

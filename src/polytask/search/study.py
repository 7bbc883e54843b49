"""The trials of a search, kept by Optuna in one SQLite file, so that a stopped search goes on.

A trial's sampler is seeded by its number and learns from the waves of trials before it: a search
that was stopped and resumed proposes what it would have proposed without the stop.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from polytask.config.search import Span, Value
from polytask.config.writing import shown
from polytask.errors import MissingExtra, RunError
from polytask.randomness import stable_hash

Outcome = Literal["done", "over_budget", "failed"]
STORAGE = "search.db"
NAME = "search"


@dataclass(frozen=True)
class Trial:
    """A combination that was tried; `score` is larger where better, `cost` in the budget's unit."""

    number: int
    values: Mapping[str, Value]
    outcome: Outcome
    score: float | None = None
    cost: float | None = None
    tasks: Mapping[str, float] | None = None
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "number": self.number,
            "values": dict(self.values),
            "outcome": self.outcome,
            "score": self.score,
            "cost": self.cost,
            "tasks": self.tasks,
            "reason": self.reason,
        }


class Study:
    """Asks for combinations and remembers what became of them.

    Args:
        folder: that holds the file.
        dimensions: the values that every option may take.
        sampler: `tpe` or `random`; `grid` has its combinations in `grid`.
        seed: of the sampler.
        grid: the combinations to try, in order.
    """

    def __init__(
        self,
        folder: Path,
        dimensions: Mapping[str, Sequence[Value] | Span],
        sampler: str,
        seed: int,
        grid: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        if not find_spec("optuna"):
            raise MissingExtra("polytask search", "search")
        with warnings.catch_warnings():  # of SQLAlchemy's and Optuna's own insides
            warnings.simplefilter("ignore")
            import optuna

            optuna.logging.set_verbosity(optuna.logging.ERROR)
            self.optuna: Any = optuna
            self.dimensions = dimensions
            self.by_word = {
                name: {shown(value): value for value in values}
                for name, values in dimensions.items()
                if not isinstance(values, Span)
            }
            self.sampler, self.seed = sampler, seed
            try:
                storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STORAGE}")
                self.study: Any = optuna.create_study(
                    storage=storage,
                    study_name=NAME,
                    directions=["maximize", "minimize"],
                    load_if_exists=True,
                )
            except Exception as error:
                where, way_out = str(folder / STORAGE), "Use --overwrite to start again."
                raise RunError.at(where, "is damaged.", way_out) from error
        self.storage = storage
        if grid:
            self._enqueue(grid)

    def _enqueue(self, grid: Sequence[Mapping[str, Value]]) -> None:
        known = len(self.study.get_trials(deepcopy=False))  # all of them, or a first part
        for values in grid[known:]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.study.enqueue_trial({n: self._word(n, v) for n, v in values.items()})

    def _word(self, name: str, value: Value) -> Any:
        return value if isinstance(self.dimensions[name], Span) else shown(value)

    def ask(self, pending: Collection[int] = ()) -> tuple[int, dict[str, Value]]:
        """A trial to run: its number and values; first one that was asked for before a stop.

        `pending` are the numbers of those that have been asked for since and not told.
        """
        states = self.optuna.trial.TrialState
        running = self.study.get_trials(deepcopy=False, states=(states.RUNNING,))
        open_trials = [trial for trial in running if trial.number not in pending]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # samplers warn of what is experimental in them
            if open_trials:
                number = open_trials[0].number
                self.study.sampler = self._sampler(number)
                trial = self.optuna.trial.Trial(self.study, open_trials[0]._trial_id)
            else:
                asked = (states.COMPLETE, states.PRUNED, states.FAIL, states.RUNNING)
                number = len(self.study.get_trials(deepcopy=False, states=asked))
                self.study.sampler = self._sampler(number)
                trial = self.study.ask()
            return trial.number, {name: self._suggest(trial, name) for name in self.dimensions}

    def _sampler(self, number: int) -> Any:
        seed = stable_hash("search", self.seed, number) % 2**32
        samplers = self.optuna.samplers
        if self.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed)

    def _suggest(self, trial: Any, name: str) -> Value:
        values = self.dimensions[name]
        if isinstance(values, Span):
            found: float = trial.suggest_float(name, values.low, values.high, step=values.step)
            return found
        word = trial.suggest_categorical(name, list(self.by_word[name]))
        return self.by_word[name][word]

    def tell(self, trial: Trial) -> None:
        """Remember what became of a trial that was asked for."""
        states = self.optuna.trial.TrialState
        known = self.study.get_trials(deepcopy=False)[trial.number]
        self.storage.set_trial_user_attr(known._trial_id, "trial", trial.as_dict())
        if trial.outcome == "done":
            self.study.tell(trial.number, [trial.score, trial.cost])
        else:
            state = states.PRUNED if trial.outcome == "over_budget" else states.FAIL
            self.study.tell(trial.number, state=state)

    @property
    def trials(self) -> list[Trial]:
        """All that were told."""
        kept = self.study.get_trials(deepcopy=False)
        return [
            Trial(**t.user_attrs["trial"])
            for t in kept
            if t.state.is_finished() and "trial" in t.user_attrs
        ]

"""The best path within a budget, of one run or of a whole comparison.

Tasks that read the same labels of the same data set answer one question, and their paths are
alternatives, as the levels of `nested_net` or the exits of `multi_exit` are; in a comparison so are
the paths of all methods. Each question gets the path that is best on validation data among those
that fit; where nothing was scored, the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from polytask.budget import Budget
from polytask.compare.outcome import read_cost, read_outcome
from polytask.cost.timing import latency
from polytask.deploy.model import Model, load
from polytask.deploy.run_folder import find_run, finished_methods
from polytask.errors import Fault, RunError, unknown
from polytask.training.output import CONFIG

Question: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A task's path: the run it is in, what it takes of the budget, its score, larger is better."""

    model: Model
    task: str
    used: float
    score: float | None
    metric: str

    @property
    def rank(self) -> tuple[bool, float, float]:
        """The better of two paths has the larger rank; of equal ones the cheaper is better."""
        if self.score is None:
            return (False, 0.0, self.used)
        return (True, self.score, -self.used)

    @property
    def words(self) -> str:
        """The method, and its score on validation data."""
        if self.score is None:
            return f"{self.model.method}, not scored on validation data"
        return f"{self.model.method}, {self.metric} {abs(self.score):.3f} on validation data"


@dataclass(frozen=True)
class Within:
    """The best path of each question, and the questions that no path within the budget answers."""

    choices: list[Choice]
    refused: list[Fault]


def within(
    folder: Path,
    budget: Budget,
    method: str | None = None,
    seed: int | None = None,
    tasks: Iterable[str] | None = None,
) -> Within:
    """Choose paths that fit a budget; a latency is measured on this machine.

    In the folder of a comparison all methods count unless one is named, each with its first
    finished seed or, where a seed is asked for, if that has finished.

    Raises:
        RunError: there is no such run or task, or no path at all fits; it names the smallest.
    """
    questions: dict[Question, list[Choice]] = {}
    known: dict[str, None] = {}
    wanted = list(tasks or ())
    for run in _runs(folder, method, seed):
        model = load(run)
        known |= dict.fromkeys(model.tasks)
        for question, choice in _choices(model, budget):
            if not wanted or choice.task in wanted:
                questions.setdefault(question, []).append(choice)
    for task in wanted:
        if task not in known:
            raise RunError(unknown(str(folder), "task", task, known))
    chosen, refused = [], []
    for choices in questions.values():
        fitting = [choice for choice in choices if budget.allows(choice.used)]
        if fitting:
            chosen.append(max(fitting, key=lambda choice: choice.rank))
        else:
            refused.append(_refusal(folder, budget, choices))
    if not chosen:
        raise RunError(refused)
    return Within(chosen, refused)


def _runs(folder: Path, method: str | None, seed: int | None) -> list[Path]:
    methods = finished_methods(folder, seed) if method is None else []
    if not methods:
        return [find_run(folder, method, seed)]
    return [find_run(folder, name, seed) for name in methods]


def _choices(model: Model, budget: Budget) -> Iterator[tuple[Question, Choice]]:
    from polytask.config import read_config

    config = read_config(model.folder / CONFIG, options=False)
    outcome = read_outcome(model.method, model.seed, model.folder)
    cost = read_cost(model.folder)
    result: Any = (outcome and outcome.result) or {}
    for task in model.tasks:
        options = config.tasks[task]
        if options.data is None:
            question: Question = (task,)
        else:
            question = (options.kind, options.data, str(options.label), str(options.classes))
        metric = result.get("primary", {}).get(task, "")
        score = result.get("val", {}).get(task, {}).get(metric)
        if score is not None and not result["higher_is_better"][task]:
            score = -score
        path = cost["tasks"][task] if cost else {}
        used = budget.used(path, partial(_milliseconds, model, task))
        yield question, Choice(model, task, used, score, metric)


def _milliseconds(model: Model, task: str) -> float:
    return latency(model.path(task), model.input_of(task), model.tasks[task].views)


def _refusal(folder: Path, budget: Budget, choices: list[Choice]) -> Fault:
    least = min(choices, key=lambda choice: choice.used)
    names = ", ".join(dict.fromkeys(choice.task for choice in choices))
    return Fault(
        str(folder),
        f"no path of {names} fits {budget.text}; the smallest is that of {least.task} "
        f"({least.model.method}) with {budget.say(least.used)}.",
    )

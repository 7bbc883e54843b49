"""Searching: every combination within the budget is trained, and the best is written as a config.

A trial is a run folder, so that a stopped search goes on in the middle of a network. The score is
the mean of the tasks' primary metrics on validation data, and over seeds; the test split is never
looked at. The exit table of Lee et al. 2021 is the grid over the exits of one task, the branch
ratios of Park et al. 2022 are what a search over the branches of `multi_path` finds in a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from polytask import tasks as task_kinds
from polytask.budget import Budget, Unit, amount
from polytask.config.search import SearchConfig, Value
from polytask.cost import latencies, measure
from polytask.cost.of_config import streams_of
from polytask.errors import Diverged, RunError, UserError
from polytask.search.space import Space, space_of
from polytask.search.study import STORAGE, Study, Trial
from polytask.sharing.build import build_method
from polytask.training import loggers, output
from polytask.training.checkpoint import write_json, write_text
from polytask.training.interrupt import stops_on_interrupt
from polytask.training.progress import Message, Progress, Show
from polytask.training.run import train_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polytask.config.models import Config

CHOSEN, FOUND, TRIALS = "chosen.yaml", "search.json", "trials"
# A sampler that proposes nothing within the budget so often per trial has found all there is.
PROPOSALS = 20


@dataclass(frozen=True)
class Found:
    """What a search found: all trials, the front, and the trial that was chosen."""

    folder: Path
    unit: Unit
    trials: list[Trial]
    front: list[Trial]
    chosen: Trial | None

    def as_dict(self) -> dict[str, Any]:
        """The content of `search.json`."""
        return {
            "unit": self.unit,
            "trials": [trial.as_dict() for trial in self.trials],
            "front": [trial.number for trial in self.front],
            "chosen": None if self.chosen is None else self.chosen.number,
            "config": None if self.chosen is None else CHOSEN,
        }


def search(
    config: Config,
    folder: Path,
    show: Show = lambda event: None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Found:
    """Try what a config's `search` section describes.

    Args:
        config: of which `seeds` counts as far as the section says.
        folder: of the trials; nothing is written before the input is known to be right.
        show: is shown what happens.
        resume: go on with what is in the folder.
        overwrite: delete what is in the folder first.

    Raises:
        UserError: the input or the folder is wrong.
        KeyboardInterrupt: stopped; the network in training has saved its state.
    """
    output.check_output(folder, resume=resume, overwrite=overwrite)
    if resume and not output.is_unused(folder):
        if not (folder / STORAGE).exists():
            raise RunError.at(str(folder), f"holds no {STORAGE}; expected the folder of a search.")
        output.check_same_config(folder, config)
    loggers.check(config)
    space = space_of(config)
    with _locked(folder):
        output.check_output(folder, resume=resume, overwrite=overwrite)
        if not (resume and (folder / STORAGE).exists()):
            output.clear(folder)
            write_text(folder / output.CONFIG, config.dump())
        return _Search(space, folder, show).run()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / output.LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        problem = "is in use by another polytask process."
        raise RunError.at(str(folder), problem, "Wait for it, or give another --out.") from error
    try:
        yield
    finally:
        lock.release()


class _Search:
    def __init__(self, space: Space, folder: Path, show: Show) -> None:
        self.space, self.folder, self.show = space, folder, show
        self.config = space.config
        self.options = self.config.search or SearchConfig()
        text = self.options.budget
        self.budget = None if text is None else Budget.parse(text)
        self.unit: Unit = self.budget.unit if self.budget else "macs"
        size = space.size
        fits = size is not None and size <= self.options.trials
        is_grid = self.options.sampler == "grid" or (self.options.sampler == "auto" and fits)
        grid = space.grid() if is_grid else []
        self.wanted = len(grid) if is_grid else self.options.trials
        self.most = len(grid) if is_grid else PROPOSALS * self.options.trials
        sampler = "tpe" if self.options.sampler == "auto" else self.options.sampler
        self.study = Study(folder, space.dimensions, sampler, self.options.seed, grid)
        self.is_grid = is_grid
        self.tasks = task_kinds.build(self.config.tasks)
        self.streams, self.stream_of = streams_of(self.config, self.tasks)

    def run(self) -> Found:
        while not self._is_over():
            number, values = self.study.ask()
            trial = self._seen(number, values) or self._try(number, values)
            self.study.tell(trial)
            self.show(Message(self._line(trial)))
        found = self._sum_up()
        write_json(self.folder / FOUND, found.as_dict())
        if found.chosen is not None:
            write_text(self.folder / CHOSEN, self.space.at(found.chosen.values).dump())
        return found

    def _is_over(self) -> bool:
        told = self.study.trials
        trained = [t for t in told if self.is_grid or t.outcome != "over_budget"]
        return len(trained) >= self.wanted or len(told) >= self.most

    def _seen(self, number: int, values: Mapping[str, Value]) -> Trial | None:
        """What became of the same combination before: the same again."""
        for trial in self.study.trials:
            if dict(trial.values) == dict(values):
                return Trial(**{**trial.as_dict(), "number": number})
        return None

    def _try(self, number: int, values: Mapping[str, Value]) -> Trial:
        try:
            config = self.space.at(values)
            cost = self._cost(config)
            if self.budget is not None and not self.budget.allows(cost):
                reason = f"{self.budget.say(cost)} is over {self.budget.text}"
                return Trial(number, values, "over_budget", cost=cost, reason=reason)
            scores = self._train(number, config)
        except (UserError, Diverged) as error:
            return Trial(number, values, "failed", reason=str(error))
        except (RuntimeError, ValueError, MemoryError) as error:
            return Trial(number, values, "failed", reason=f"{type(error).__name__}: {error}")
        signs = {name: 1 if task.higher_is_better else -1 for name, task in self.tasks.items()}
        mean = fmean(signs[task] * score for task, score in scores.items())
        return Trial(number, values, "done", mean, cost, scores)

    def _cost(self, config: Config) -> float:
        """What a combination costs in the budget's unit, before it is trained."""
        import torch

        entry = config.method(self.space.entry.key)
        untrained = {"pretrained": False, "weights": None, "init": None}
        plain = config.model_copy(update={"backbone": config.backbone.model_copy(update=untrained)})
        device = torch.device("cpu" if self.unit == "ms" else "meta")
        with device:
            method = build_method(
                plain, entry, self.tasks, self.streams, self.stream_of, config.seeds[0]
            )
        if self.unit == "ms":
            found = list(latencies(method, runs=20).values())
        else:
            cost = measure(method).as_dict()
            if self.options.of == "total":
                return float(cost["total"][self.unit])
            found = [float(cost["tasks"][task][self.unit]) for task in self.tasks]
        return max(found) if self.options.of == "largest" else fmean(found)

    def _train(self, number: int, config: Config) -> dict[str, float]:
        """The primary metric of every task on validation data, its mean over seeds."""
        entry = config.method(self.space.entry.key)
        found: dict[str, list[float]] = {}
        for seed in config.seeds[: self.options.seeds]:
            home = self.folder / TRIALS / f"{number:04d}"
            progress = Progress(_named(self.show, f"trial {number}/seed{seed}"))
            with stops_on_interrupt(progress):
                result = train_run(
                    config,
                    entry,
                    seed,
                    home / f"seed{seed}",
                    progress=progress,
                    resume=True,
                )
            for task, metrics in result["val"].items():
                found.setdefault(task, []).append(metrics[result["primary"][task]])
        if not found:
            raise RunError.at(str(self.folder), "no task has labelled validation images to score.")
        return {task: fmean(scores) for task, scores in found.items()}

    def _sum_up(self) -> Found:
        trials = self.study.trials
        front = frontier([trial for trial in trials if trial.outcome == "done"])
        chosen = front[-1] if front else None  # the best; of equal ones the cheapest
        return Found(self.folder, self.unit, trials, front, chosen)

    def _line(self, trial: Trial) -> str:
        values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
        head = f"trial {trial.number} ({values})"
        if trial.score is None or trial.cost is None:
            return f"{head} {trial.outcome.replace('_', ' ')}: {trial.reason}"
        return f"{head}: {trial.score:.4f} at {amount(trial.cost, self.unit)}"


def _named(show: Show, name: str) -> Show:
    """The events of a run under the name of its trial."""
    from dataclasses import replace

    def renamed(event: Any) -> None:
        show(replace(event, run=name) if hasattr(event, "run") else event)

    return renamed


def frontier(trials: list[Trial]) -> list[Trial]:
    """The trials that no cheaper or equally cheap one equals or beats, cheapest first."""
    best: list[Trial] = []
    key: Callable[[Trial], tuple[float, float]] = lambda t: (t.cost or 0.0, -(t.score or 0.0))  # noqa: E731
    for trial in sorted(trials, key=key):
        if not best or (trial.score or 0.0) > (best[-1].score or 0.0):
            best.append(trial)
    return best

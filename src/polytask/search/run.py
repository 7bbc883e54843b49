"""Searching: every combination within the budget is trained, and the best is written as a config.

A trial is a run folder for each seed, trained by workers as those of a comparison are, so that a
stopped search goes on in the middle of a network. The score is the mean of the tasks' primary
metrics on validation data, and over seeds; the test split is never looked at. The exit table of Lee
et al. 2021 is the grid over the exits of one task, the branch ratios of Park et al. 2022 are what a
search over the branches of `multi_path` finds in a budget.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

from polytask import tasks as task_kinds
from polytask.budget import Budget, Unit, amount
from polytask.compare.comparison import CHECK, TRAIN
from polytask.compare.outcome import ERROR
from polytask.compare.pool import LOCAL, Pool
from polytask.compare.worker import Job, Reply, Setup
from polytask.config.search import SearchConfig, Value
from polytask.cost import latencies, measure
from polytask.cost.of_config import streams_of
from polytask.errors import RunError, UserError
from polytask.search.found import CHOSEN, FOUND, Found
from polytask.search.space import Space, space_of
from polytask.search.study import STORAGE, Study, Trial
from polytask.sharing.build import build_method
from polytask.training import loggers, output, preflight
from polytask.training.checkpoint import write_json, write_text
from polytask.training.interrupt import terminates_like_interrupt
from polytask.training.progress import Message, Show
from polytask.training.result import finished

if TYPE_CHECKING:
    from polytask.config.models import Config

TRIALS = "trials"
# A sampler that proposes nothing within the budget so often per trial has found all there is.
PROPOSALS = 20
# Networks that a sampler proposes before it learns from their scores: a number of its own, so that
# what is found does not depend on how many are trained at once.
WAVE = 4
FINAL = ("done", "diverged", "wrong_input")  # what a run would end in again
SAME = "the same options have failed before it"
Values: TypeAlias = "Mapping[str, Value]"


def search(
    config: Config,
    folder: Path,
    show: Show = lambda event: None,
    jobs: int | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    devices: int = 1,
    on: str = LOCAL,
    train: str = TRAIN,
) -> Found:
    """Try what a config's `search` section describes.

    Args:
        config: of which `seeds` counts as far as the section says.
        folder: of the trials; nothing is written before the input is known to be right.
        show: is shown what happens.
        jobs: networks to train at once; as many as cores and memory allow by default.
        resume: go on with what is in the folder.
        overwrite: delete what is in the folder first.
        devices: processes that each network trains in, one a GPU where there are any.
        on: where they train: `local`, `ray`, or the address of a Ray cluster.
        train: the function that trains a network, `module:name`.

    Raises:
        UserError: the input or the folder is wrong.
        KeyboardInterrupt: stopped; the networks in training have saved their state.
    """
    output.check_output(folder, resume=resume, overwrite=overwrite)
    if resume and not output.is_unused(folder):
        if not (folder / STORAGE).exists():
            raise RunError.at(str(folder), f"holds no {STORAGE}; expected the folder of a search.")
        output.check_same_config(folder, config)
    loggers.check(config)
    space = space_of(config)
    if not (resume and (folder / STORAGE).exists()):
        one = space.at(space.first)
        preflight.check(one, [one.method(space.entry.key)], devices)
    with output.locked(folder, folder / output.LOCK):
        output.check_output(folder, resume=resume, overwrite=overwrite)
        if not (resume and (folder / STORAGE).exists()):
            output.clear(folder)
            write_text(folder / output.CONFIG, config.dump())
        setup = Setup(train, CHECK, pickle.dumps(config), folder, devices, is_comparison=False)

        def pool(runs: int) -> Pool:
            return Pool.of(runs, jobs, setup, on, show)

        return _Search(space, folder, show).run(pool)


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
        self.is_grid, self.learns = is_grid, sampler == "tpe" and not is_grid
        self.costs: dict[int, float] = {}
        self.open: dict[int, Trial] = {}  # failed in a way that need not happen again
        self.tasks = task_kinds.build(self.config.tasks)
        self.streams, self.stream_of = streams_of(self.config, self.tasks)

    def run(self, make_pool: Callable[[int], Pool]) -> Found:
        with ExitStack() as stack, terminates_like_interrupt():
            pool: Pool | None = None
            while wave := self._wave():
                jobs = self._jobs(wave)
                if pool is None:
                    pool = stack.enter_context(make_pool(self._most_at_once(wave, jobs)))
                self._train(pool, jobs, wave)
        trials = sorted([*self.study.trials, *self.open.values()], key=lambda t: t.number)
        better = {name: task.higher_is_better for name, task in self.tasks.items()}
        found = Found.of(self.folder, self.unit, better, trials)
        write_json(self.folder / FOUND, found.as_dict())
        if found.chosen is not None:
            write_text(self.folder / CHOSEN, self.space.at(found.chosen.values).dump())
        return found

    # What to train.

    def _wave(self) -> dict[int, Values]:
        """The combinations to train next by their numbers; what needs no training is told."""
        wave: dict[int, Values] = {}
        while not self._is_over(len(wave)) and not self._is_full(len(wave)):
            number, values = self.study.ask({*wave, *self.open})
            trial = self._seen(number, values) or self._untrained(number, values)
            if trial is None:
                wave[number] = values
            else:
                self._tell(trial)
        return wave

    def _done(self) -> int:
        """How many of the wanted combinations are over."""
        trials = [*self.study.trials, *self.open.values()]
        return sum(self.is_grid or trial.outcome != "over_budget" for trial in trials)

    def _is_over(self, pending: int) -> bool:
        asked = len(self.study.trials) + len(self.open) + pending
        return asked >= self.most or self._done() + pending >= self.wanted

    def _is_full(self, pending: int) -> bool:
        """Whether the sampler must learn before it proposes more, however much runs at once."""
        return self.learns and pending > 0 and (self._done() + pending) % WAVE == 0

    def _seen(self, number: int, values: Values) -> Trial | None:
        """What became of the same combination before: the same again."""
        for trial in self.study.trials:
            if dict(trial.values) == dict(values):
                return Trial(**{**trial.as_dict(), "number": number})
        return None

    def _untrained(self, number: int, values: Values) -> Trial | None:
        """The trial of a combination that is wrong or over the budget."""
        try:
            cost = self.costs[number] = self._cost(self.space.at(values))
        except UserError as error:
            return Trial(number, values, "failed", reason=str(error))
        except (RuntimeError, ValueError, MemoryError) as error:
            return Trial(number, values, "failed", reason=f"{type(error).__name__}: {error}")
        if self.budget is None or self.budget.allows(cost):
            return None
        reason = f"{self.budget.say(cost)} is over {self.budget.text}"
        return Trial(number, values, "over_budget", cost=cost, reason=reason)

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

    # Training.

    def _jobs(self, wave: Mapping[int, Values]) -> dict[Job, int]:
        """The runs of a wave with the numbers of their trials; equal combinations train once."""
        found: dict[Job, int] = {}
        known: list[dict[str, Value]] = []
        for number, values in wave.items():
            if dict(values) in known:
                continue
            known.append(dict(values))
            config = self.space.at(values)
            method = self.space.entry.key
            for seed in config.seeds[: self.options.seeds]:
                folder = self.folder / TRIALS / f"{number:04d}" / f"seed{seed}"
                name = f"trial {number}/seed{seed}"
                found[Job(method, seed, folder, name, pickle.dumps(config))] = number
        return found

    def _most_at_once(self, wave: Mapping[int, Values], jobs: Mapping[Job, int]) -> int:
        """The runs of this wave, or of a fuller one after it: a resumed search begins with what is
        left of one."""
        later = min(WAVE, self.wanted - self._done() - len(wave))
        return max(len(jobs), later * len(self.config.seeds[: self.options.seeds]))

    def _train(self, pool: Pool, jobs: Mapping[Job, int], wave: Mapping[int, Values]) -> None:
        replies: dict[int, dict[Job, Reply]] = {}

        def ended(job: Job, reply: Reply) -> None:
            number = jobs[job]
            heard = replies.setdefault(number, {})
            heard[job] = reply
            if reply.outcome == "failed":
                write_text(job.folder / ERROR, f"{reply.reason}\n{reply.traceback}")
            if len(heard) == list(jobs.values()).count(number):
                trial = self._outcome(number, wave[number], heard)
                self._tell(trial, is_final=all(r.outcome in FINAL for r in heard.values()))

        pool.train(list(jobs), ended)
        for number in wave.keys() - replies.keys():
            if (trial := self._seen(number, wave[number])) is not None:
                self._tell(trial)
            else:  # of one that failed by accident
                self._tell(Trial(number, wave[number], "failed", reason=SAME), is_final=False)

    def _outcome(self, number: int, values: Values, heard: Mapping[Job, Reply]) -> Trial:
        """What became of a combination: the primary metrics on validation data over its seeds."""
        for job, reply in heard.items():
            if reply.outcome != "done":
                reason = reply.reason or "; ".join(map(str, reply.faults)) or reply.outcome
                return Trial(number, values, "failed", reason=f"{job.name}: {reason}")
        found: dict[str, list[float]] = {}
        for job in heard:
            result = finished(job.folder)
            assert result is not None, f"{job.folder} holds no result of a finished run"
            for task, metrics in result["val"].items():
                found.setdefault(task, []).append(metrics[result["primary"][task]])
        if not found:
            reason = "no task has labelled validation images to score"
            return Trial(number, values, "failed", reason=reason)
        scores = {task: fmean(per_seed) for task, per_seed in found.items()}
        signs = {name: 1 if task.higher_is_better else -1 for name, task in self.tasks.items()}
        mean = fmean(signs[task] * score for task, score in scores.items())
        return Trial(number, values, "done", mean, self.costs[number], scores)

    def _tell(self, trial: Trial, is_final: bool = True) -> None:
        """Remember a trial; one that is not final stays open, for `--resume` to try again."""
        if is_final:
            self.study.tell(trial)
        else:
            self.open[trial.number] = trial
        self.show(Message(self._line(trial)))

    def _line(self, trial: Trial) -> str:
        values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
        head = f"trial {trial.number} ({values})"
        if trial.score is None or trial.cost is None:
            return f"{head} {trial.outcome.replace('_', ' ')}: {trial.reason}"
        return f"{head}: {trial.score:.4f} at {amount(trial.cost, self.unit)}"

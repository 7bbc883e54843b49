"""One run: a method with one seed into a run folder, from its start or from where it stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from polytask import tasks as task_kinds
from polytask.cost import latencies
from polytask.data.load import load_data
from polytask.data.pipeline import Data
from polytask.errors import RunError
from polytask.phase import Phase, Schedule
from polytask.sharing.build import build_method
from polytask.sharing.method import SharingMethod
from polytask.tasks.task import Task
from polytask.training import checkpoint, output
from polytask.training.allocator import keep_freed_memory
from polytask.training.evaluation import Scores, Watcher, evaluate
from polytask.training.fingerprint import reusable, run_hash, versions
from polytask.training.health import health_of
from polytask.training.loop import Clock, Loop
from polytask.training.progress import Progress, Silent
from polytask.training.record import Record, flat
from polytask.training.routes import probes, transferred
from polytask.training.start import check_transfer, source_of, start_of
from polytask.training.world import World

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry

# Seconds of training between two saves: saving takes at most a fiftieth of the time, but is done
# every 25 seconds at the latest.
SAVE_SECONDS = (3.0, 25.0)
SAVE_SHARE = 50


class Stopped(KeyboardInterrupt):
    """The run was told to stop; its state is saved."""


def prepare_process() -> None:
    """One torch thread unless OMP_NUM_THREADS says otherwise; repeatable kernels; warm memory."""
    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def train_run(
    config: Config,
    entry: MethodEntry,
    seed: int,
    folder: Path,
    *,
    progress: Progress | None = None,
    resume: bool = False,
    overwrite: bool = False,
    comparison: Path | None = None,
    stop_after: int | None = None,
) -> dict[str, Any]:
    """Train one method with one seed; returns what `result.json` in the run folder holds.

    A finished run is returned as it is; a stopped one goes on from its last saved step and ends
    with the same weights. With `overwrite` the run that was there is deleted first, once the input
    is known to be right. A finished run with the same hash in `comparison` is reused.

    Raises:
        UserError: the input is wrong.
        Diverged: a loss became NaN or infinite.
        Stopped: after `stop_after` steps (what tests use), with the state saved.
    """
    if not overwrite and (result := _finished(folder)) is not None:
        return result
    prepare_process()
    # Wrong input is found before anything is written, the lock included.
    run = Run(config, entry, seed, folder, progress or Silent(), comparison, stop_after)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The operating system frees the lock of a dead process, so that it never blocks.
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not overwrite and (result := _finished(folder)) is not None:
            return result
        if overwrite and folder.exists():
            output.clear(folder)
        return run.start(resume)


def _finished(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run, `None` while there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / "result.json"
    if not (path.exists() and (folder / output.WEIGHTS).exists()):
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(result, dict):
            raise ValueError
    except ValueError as error:
        raise RunError.at(str(path), "is damaged.", "Train again with --overwrite.") from error
    return result


class Run:
    """A run in progress: its method, data, phases and what its state holds."""

    def __init__(
        self,
        config: Config,
        entry: MethodEntry,
        seed: int,
        folder: Path,
        progress: Progress,
        comparison: Path | None,
        stop_after: int | None,
    ) -> None:
        self.config, self.entry, self.seed, self.folder = config, entry, seed, folder
        self.progress, self.comparison, self.stop_after = progress, comparison, stop_after
        self.world = World.of(config.train.precision)
        self.tasks = task_kinds.build(config.tasks)
        self.data: Data = load_data(config, self.tasks, seed)
        self.start_from = start_of(config, entry)
        if self.start_from is not None:
            self.data.normalisation = self.start_from.normalisation
        method = self._built(entry)
        check_transfer(config, entry, method)
        self.method: SharingMethod = method.to(self.world.device)
        if config.train.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        self.phases: list[Phase] = []
        if any(type(task).planned is not Task.planned for task in self.tasks.values()):
            self.plan(self.untrained_single_paths)  # refused before anything is written
        self.hash = run_hash(config, entry, seed, self.data.fingerprint)
        self.phase_index = 0
        self.record = Record(folder)
        self.images = dict.fromkeys(self.tasks, 0)
        self.extra_samples = 0
        self.teacher_samples = 0
        self.best = float("-inf")
        self.unimproved = 0
        self.modules: dict[str, Tensor] = {}  # of the phase that was finished last
        self.clock = Clock()
        self.saved_at = time.monotonic()
        self.save_every = SAVE_SECONDS[0]
        self.total_steps = 0
        self.done_steps = 0

    def plan(self, single_paths: Callable[[], dict[str, nn.Module]]) -> list[Phase]:
        config, data = self.config, self.data
        schedule = Schedule(
            config.train.epochs, config.match, data.samples, data.data_of, single_paths
        )
        phases = self.method.plan(schedule)
        for task in self.tasks.values():
            phases = task.planned(phases, self.method)
        transfer = self.entry.options.transfer
        if transfer is None:
            return phases
        source = source_of(config, self.entry)
        return transferred(phases, self.method, source, transfer, config.train, data.normalisation)

    def _single(self) -> tuple[MethodEntry, SharingMethod]:
        entry = next(e for e in self.config.methods if e.name == "single")
        return entry, self._built(entry)

    def _built(self, entry: MethodEntry) -> SharingMethod:
        config, data = self.config, self.data
        source = self.start_from if entry is self.entry else start_of(config, entry)
        start = None if source is None else source.start
        return build_method(
            config, entry, self.tasks, data.streams, data.stream_of, self.seed, start
        )

    def untrained_single_paths(self) -> dict[str, nn.Module]:
        _, single = self._single()
        return {task: single.path(task) for task in self.tasks}

    def _single_paths(self) -> dict[str, nn.Module]:
        """The finished single-task networks of this config and seed, trained first if need be.

        They stand where the comparison keeps its own `single` run, so that each is trained once.
        """
        entry, single = self._single()
        home = self.comparison or self.folder / "teachers"
        folder = home / entry.key / f"seed{self.seed}"
        result = train_run(
            self.config,
            entry,
            self.seed,
            folder,
            progress=self.progress,
            resume=True,
            comparison=self.comparison,
        )
        checkpoint.load_weights(folder / output.WEIGHTS, single)
        self.teacher_samples = sum(result["samples"].values())
        return {task: single.path(task).to(self.world.device) for task in self.tasks}

    # Files.

    def start(self, resume: bool) -> dict[str, Any]:
        """Reuse, resume or begin; returns the result."""
        if self.comparison is not None:
            found = reusable(self.comparison, self.hash, self.folder)
            if found is not None:
                return found
        state = checkpoint.load_state(self.folder) if resume else None
        if state is not None and state["hash"] != self.hash:
            raise RunError.at(
                str(self.folder),
                "holds a run of another config, data or version; it cannot go on.",
                "Use --overwrite to start again, or another --out.",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if state is None:
            about = {"method": self.entry.key, "seed": self.seed}
            self.record.begin(self.config, self.method, self.data, about)
        return self._train(state)

    def _add_row(self, loop: Loop, split: str, values: Mapping[str, float]) -> None:
        place = {"phase": loop.phase.name, "epoch": loop.epoch, "step": loop.updates}
        seconds = round(self.clock.seconds, 3)
        self.record.add({**place, "split": split, **values, "seconds": seconds})

    # State.

    def _save(self, loop: Loop | None) -> None:
        began = time.monotonic()
        checkpoint.save_state(
            self.folder,
            {
                "hash": self.hash,
                "phase": self.phase_index,
                "method": self.method.state_dict(),
                "loop": None if loop is None else loop.state_dict(),
                "rows": self.record.rows,
                "images": dict(self.images),
                "extra_samples": self.extra_samples,
                "best": self.best,
                "unimproved": self.unimproved,
                "done_steps": self.done_steps,
                "seconds": self.clock.seconds,
                "waited": self.data.waited,
                "modules": self.modules if loop is None else {},
            },
        )
        self.saved_at = time.monotonic()
        least, most = SAVE_SECONDS
        self.save_every = min(most, max(least, SAVE_SHARE * (self.saved_at - began)))

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.phase_index = state["phase"]
        self.record.keep(state["rows"])
        for name in ("images", "extra_samples", "best", "unimproved", "done_steps"):
            setattr(self, name, state[name])
        self.clock = Clock(state["seconds"])
        self.data.waited = state["waited"]
        self.modules = state["modules"]

    # Training.

    def _train(self, state: dict[str, Any] | None) -> dict[str, Any]:
        if state is not None:
            self._restore(state)
        loop_state = state["loop"] if state is not None else None
        name = f"{self.entry.key}/seed{self.seed}"
        self.phases = self.plan(self._single_paths)
        self.total_steps = sum(p.epochs * self._steps(p) for p in self.phases)
        self.progress.run_started(name, self.total_steps, self.done_steps)
        loop: Loop | None = None
        while self.phase_index < len(self.phases):
            loop = self._run_phase(self.phases[self.phase_index], loop, loop_state)
            loop_state = None
        if loop is None:  # resumed after the last phase: only the scores are missing
            loop = self._loop(self.phases[-1])
        result = self._finish(loop)
        self.progress.run_finished(name)
        return result

    def _steps(self, phase: Phase) -> int:
        return self.data.steps(phase.tasks, phase.part, phase.joint_pace)

    def _loop(self, phase: Phase) -> Loop:
        return Loop(
            self.config, self.method, self.data, self.world, phase, self.seed, self._after_step
        )

    def _run_phase(self, phase: Phase, before: Loop | None, state: dict[str, Any] | None) -> Loop:
        loop = self._loop(phase)
        if state is not None:
            loop.load_state_dict(state)
        else:
            # What a module learned in one phase it knows in the next, before and after a stop.
            loop.modules.load_state_dict({**loop.modules.state_dict(), **self._kept(loop)})
            if before is not None and phase.keep_balancer:
                loop.balancer.load_state_dict(before.balancer.state_dict())
            self.best, self.unimproved = float("-inf"), 0  # the epoch is chosen in the last phase
            self.method.on_phase_start(loop)
            self._save(loop)
        while not loop.is_done and not self._stop_early():
            losses = loop.run_epoch()
            self._report_epoch(loop, losses)
        loop.rule.finish(loop)
        self.method.on_phase_end(loop)
        for task, count in loop.images.items():
            self.images[task] += count
            if phase.extra:
                self.extra_samples += count
        self.phase_index += 1
        self.modules = loop.modules.state_dict()
        self._save(None)
        return loop

    def _kept(self, loop: Loop) -> dict[str, Tensor]:
        """The state of modules that the phase before had too."""
        names = loop.modules.state_dict().keys()
        return {name: value for name, value in self.modules.items() if name in names}

    def _after_step(self, loop: Loop) -> None:
        self.done_steps += 1
        self.progress.step(self.done_steps, loop.last_losses)
        if self.stop_after is not None and self.done_steps >= self.stop_after:
            self._save(loop)
            raise Stopped(f"stopped after {self.done_steps} steps")
        if self.progress.is_stopping:
            self._save(loop)
            raise Stopped("interrupted, the state is saved; --resume goes on")
        if time.monotonic() - self.saved_at > self.save_every:
            self._save(loop)

    def _report_epoch(self, loop: Loop, losses: Mapping[str, float]) -> None:
        row = {"loss": sum(losses.values()), **{f"loss/{t}": v for t, v in losses.items()}}
        self._add_row(loop, "train", {**row, **loop.rule.measured()})
        if loop.phase.forward is not None:
            return
        last = loop.epoch == loop.phase.epochs
        if loop.epoch % self.config.train.evaluate_every and not last:
            return
        with loop.rule.scored(loop):
            self._score_epoch(loop)

    def _score_epoch(self, loop: Loop) -> None:
        scores = self._evaluate("val")
        if not scores.metrics:
            return
        self._add_row(loop, "val", flat(scores))
        self.progress.epoch(loop.epoch, scores.metrics)
        if scores.primary(self.method) > self.best:
            self.best, self.unimproved = scores.primary(self.method), 0
            if self.config.train.select == "best":
                checkpoint.save_weights(self.folder / checkpoint.BEST, self.method)
        else:
            self.unimproved += 1

    def _stop_early(self) -> bool:
        stop = self.config.train.early_stop
        return stop is not None and self.unimproved > stop.patience

    def _evaluate(self, split: str, watcher: Watcher | None = None) -> Scores:
        return evaluate(self.method, self.data.scoring(split), self.world.device, watcher)

    def _finish(self, loop: Loop) -> dict[str, Any]:
        seconds = self.clock.seconds
        best = self.folder / checkpoint.BEST
        if self.config.train.select == "best" and best.exists():
            checkpoint.load_weights(best, self.method)
        checkpoint.save_weights(self.folder / output.WEIGHTS, self.method)
        self.record.write_cost(self.method)
        val, test = self._last_scores()
        self.record.keep(self.record.rows)
        self._add_row(loop, "test", flat(test))
        self._explain()
        result = {
            "method": self.entry.key,
            "seed": self.seed,
            "how": self.method.how(),
            "hash": self.hash,
            "tasks": test.metrics,
            "val": val.metrics,
            "primary": {name: task.primary for name, task in self.tasks.items()},
            "higher_is_better": {n: task.higher_is_better for n, task in self.tasks.items()},
            "chance": {n: test.chance.get(n, {}).get(t.primary) for n, t in self.tasks.items()},
            "health": {n: health_of(t, test, self.images[n]) for n, t in self.tasks.items()},
            "test_counts": test.counts,
            "labels": self.data.counts,
            "samples": self.images,
            "extra_samples": self.extra_samples + self.teacher_samples,
            "normalisation": asdict(self.data.normalisation),
            "fingerprint": self.data.fingerprint,
            "versions": versions(),
            "latency_ms": {n: round(ms, 4) for n, ms in latencies(self.method).items()},
            "skipped": self.data.skipped,
            "train_seconds": round(seconds, 3),
            "waited_seconds": round(self.data.waited, 3),
        }
        if self.entry.options.transfer is not None:
            source = source_of(self.config, self.entry)
            result["probe"] = probes(self.method, source, self.data, self.world.device)
        checkpoint.write_json(self.folder / "result.json", result)
        checkpoint.drop_state(self.folder)
        return result

    def _last_scores(self) -> tuple[Scores, Scores]:
        """Those of the validation and test images; what people look at is kept on the way."""
        from polytask.explain.confusion import Confusion
        from polytask.explain.gallery import Gallery

        gallery, confusion = Gallery(self.tasks, self.data, "val"), Confusion(self.tasks, "test")
        scores = self._evaluate("val", gallery), self._evaluate("test", confusion)
        for watcher in (gallery, confusion):
            watcher.write(self.folder / "plots")
        return scores

    def _explain(self) -> None:
        from polytask.explain.activations import write_activations

        plots = self.folder / "plots"
        write_activations(self.method, self.data.scoring("val"), self.data.normalisation, plots)
        for name, document in self.method.explained().items():
            checkpoint.write_json(plots / f"{name}.json", document)
        if getattr(self.method, "filters", None):
            from polytask.explain.filters import write_filters

            write_filters(self.method, self.data.scoring("val"), plots)

"""One run: a method with one seed into a run folder, from its start or from where it stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.errors import RunError
from polytask.phase import Phase
from polytask.training import checkpoint, loggers, output, preflight, pretrain
from polytask.training.allocator import keep_freed_memory
from polytask.training.assembly import Assembly, Work
from polytask.training.evaluation import Scores, evaluate
from polytask.training.failures import told
from polytask.training.fingerprint import reusable, run_hash
from polytask.training.loop import Clock, Loop
from polytask.training.processes import together
from polytask.training.progress import Progress, Silent
from polytask.training.record import Record, Unwritten, flat
from polytask.training.result import finish, finished
from polytask.training.saving import Saving, check_finite
from polytask.training.world import World

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry
    from polytask.training.source import Source


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
    devices: int = 1,
    is_teacher: bool = False,
) -> dict[str, Any]:
    """Train one method with one seed; returns what `result.json` in the run folder holds.

    A finished run is returned as it is; a stopped one goes on from its last saved step and ends
    with the same weights. With `overwrite` the run that was there is deleted first, once the input
    is known to be right. A finished run with the same hash in `comparison` is reused. The number of
    `devices` may change between a stop and its resumption; results then differ by rounding. What
    the method learns from is trained first; a run `is_teacher` if another waits for it.

    Raises:
        UserError: the input is wrong.
        Failed: memory, disk or a process was lost; Diverged: a loss became NaN or infinite.
        Stopped: after `stop_after` steps (what tests use), with the state saved.
    """
    if not overwrite and (result := finished(folder)) is not None:
        return result
    loggers.check(config)
    work = Work(config, entry, seed, folder, comparison, stop_after, is_teacher)
    if pretrain.comes_before(work):
        work = pretrain.after(work, progress, devices, overwrite)
        overwrite = False
    prepare_process()
    with told(folder), together(devices, config.train.precision, work) as world:
        return _trained(work, world, progress or Silent(), resume=resume, overwrite=overwrite)


def follow(work: Work, world: World, progress: Progress) -> None:
    """Do as the first process of a world does."""
    prepare_process()
    _trained(work, world, progress, resume=True, overwrite=False)


def _trained(
    work: Work, world: World, progress: Progress, *, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """The result of a run, trained by all processes of a world together.

    The first process locks, decides and writes; the others hear of it.
    """
    # Wrong input is found before anything is written, the lock included.
    run = Run(work, world, progress)
    if not world.is_first:
        return run.go_on(*world.tell(None))
    with locked(work, progress):
        result = None if overwrite else finished(work.folder)
        if overwrite and work.folder.exists():
            output.clear(work.folder)
        if result is None:
            result = run.reused()
        state = run.begun(resume) if result is None else None
        return run.go_on(*world.tell((result, state)))


def locked(work: Work, progress: Progress) -> AbstractContextManager[None]:
    """Keep other processes out of the folder of a run; only one that another run needs, or that a
    comparison trains, is worth waiting for."""
    folder = work.folder

    def wait() -> None:
        progress.message(f"waiting for {folder}, which another process trains")

    is_needed = work.is_teacher or work.comparison is not None
    lock = folder.parent / f".{folder.name}.lock"
    return output.locked(folder, lock, wait if is_needed else None)


class Run(Assembly):
    """A run in progress, and what its state holds."""

    def __init__(self, work: Work, world: World, progress: Progress) -> None:
        super().__init__(work, world)
        self.progress, self.folder = progress, work.folder
        self.hash = run_hash(self.config, self.entry, self.seed, self.data.fingerprint)
        self.phases: list[Phase] = []
        self.phase_index = 0
        self.record = (Record if world.is_first else Unwritten)(work.folder)
        self.saving = Saving(work.folder, writes=world.is_first)
        self.images = dict.fromkeys(self.tasks, 0)
        self.extra_samples = 0
        self.teacher_samples = 0
        self.best = float("-inf")
        self.unimproved = 0
        self.modules: dict[str, Tensor] = {}  # of the phase that was finished last
        self.clock = Clock()
        self.total_steps = 0
        self.done_steps = 0

    @classmethod
    def alone(
        cls,
        config: Config,
        entry: MethodEntry,
        seed: int,
        untrained: Mapping[str, Source] | None = None,
    ) -> Run:
        """A run of this process that writes nothing.

        `untrained` are what stands in for runs of the section `pretraining`, made here by default.
        """
        if untrained is None:
            untrained = preflight.untrained(config, [entry])
        work = Work(config, entry, seed, Path(os.devnull), untrained=untrained)
        return cls(work, World.of(config.train.precision), Silent())

    def _single_paths(self) -> dict[str, nn.Module]:
        """The finished single-task networks of this config and seed, trained first if need be.

        They stand where the comparison keeps its own `single` run, so that each is trained once.
        """
        entry, single = self.single()
        home = self.work.comparison or self.folder / "teachers"
        folder = home / entry.key / f"seed{self.seed}"
        result = self.world.tell(finished(folder) if self.world.is_first else None)
        if result is None:
            compared = self.work.comparison
            work = Work(self.config, entry, self.seed, folder, compared, is_teacher=True)
            result = _trained(work, self.world, self.progress, resume=True, overwrite=False)
        if self.world.is_first:
            checkpoint.load_weights(folder / output.WEIGHTS, single)
        single = single.to(self.world.device)
        self.world.copy([*single.parameters(), *single.buffers()])
        self.teacher_samples = sum(result["samples"].values())
        return {task: single.path(task).to(self.world.device) for task in self.tasks}

    # What the first process decides.

    def reused(self) -> dict[str, Any] | None:
        """The result of a finished run of the comparison that is the same as this one."""
        if self.work.comparison is None:
            return None
        return reusable(self.work.comparison, self.hash, self.folder)

    def begun(self, resume: bool) -> dict[str, Any] | None:
        """The state to go on from; at the very start `None`, and the folder is made."""
        state = checkpoint.load_state(self.folder, self.progress.message) if resume else None
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
        return state

    def add_row(self, loop: Loop, split: str, values: Mapping[str, float]) -> None:
        place = {"phase": loop.phase.name, "epoch": loop.epoch, "step": loop.updates}
        seconds = round(self.clock.seconds, 3)
        self.record.add({**place, "split": split, **values, "seconds": seconds})

    # State.

    def _save(self, loop: Loop | None) -> None:
        if loop is not None:
            loop.rule.meet(loop)
        check_finite(self.method, self.done_steps)
        self.saving.save(lambda: self._state(loop))

    def _state(self, loop: Loop | None) -> dict[str, Any]:
        return {
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
        }

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

    def go_on(self, result: dict[str, Any] | None, state: dict[str, Any] | None) -> dict[str, Any]:
        """Train from a state, or from the start; a run that has a result is left as it is."""
        if result is not None:
            return result
        if state is not None:
            self._restore(state)
        tell = self.progress.message
        with self.record.logged(self.config, self.entry.key, self.seed, tell):
            return self._train(None if state is None else state["loop"])

    def _train(self, loop_state: dict[str, Any] | None) -> dict[str, Any]:
        """Train what is left of the phases, then score."""
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
        result: dict[str, Any] = self.world.tell(
            finish(self, loop) if self.world.is_first else None
        )
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
        while not loop.is_done and not self._stop_early(loop):
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
        last = self.work.stop_after
        if last is not None and self.done_steps >= last:
            self._save(loop)
            raise Stopped(f"stopped after {self.done_steps} steps")
        is_stopping, is_due = self.world.any(self.progress.is_stopping, self.saving.is_due)
        if is_stopping or is_due:
            self._save(loop)
        if is_stopping:
            raise Stopped("interrupted, the state is saved; --resume goes on")

    def _report_epoch(self, loop: Loop, losses: Mapping[str, float]) -> None:
        row = {"loss": sum(losses.values()), **{f"loss/{t}": v for t, v in losses.items()}}
        self.add_row(loop, "train", {**row, **loop.rule.measured()})
        if loop.phase.forward is not None:
            return
        last = loop.epoch == loop.phase.epochs
        if loop.epoch % self.config.train.evaluate_every and not last:
            return
        with loop.rule.scored(loop):
            self._score_epoch(loop)

    def _score_epoch(self, loop: Loop) -> None:
        scores = self.evaluate("val")
        if not scores.metrics:
            return
        self.add_row(loop, "val", flat(scores))
        self.progress.epoch(loop.epoch, scores.metrics)
        loop.balancer.on_scores(scores.by_task(self.method))
        if scores.primary(self.method) > self.best:
            self.best, self.unimproved = scores.primary(self.method), 0
            if self.config.train.select == "best" and self.world.is_first:
                checkpoint.save_weights(self.folder / checkpoint.BEST, self.method)
        else:
            self.unimproved += 1

    def _stop_early(self, loop: Loop) -> bool:
        if loop.balancer.is_done:
            return True
        stop = self.config.train.early_stop
        return stop is not None and self.unimproved > stop.patience

    def evaluate(self, split: str) -> Scores:
        """The scores of a split, by all processes together."""
        world = self.world
        batches = self.data.scoring(split, rank=world.rank, world=world.size)
        return evaluate(self.method, batches, world.device, processes=world)

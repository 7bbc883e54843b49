"""Which tasks help which: measured while one hard-sharing network learns all of them.

Source: Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning", NeurIPS
2021, eq. 1 (look-ahead affinity); Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS
2020, definition 1 (the cosine of two tasks' gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.batch import Batch
from polytask.config.methods import default_entry
from polytask.errors import UserError
from polytask.search.grouping import propose
from polytask.tasks.task import Task
from polytask.training.loop import Loop
from polytask.training.losses import StepLosses
from polytask.training.run import Run, prepare_process

if TYPE_CHECKING:
    from polytask.config.models import Config

METHOD = "hard"
MEASUREMENTS = 30  # that a run takes where it has as many steps
Matrix = list[list[float]]


@dataclass(frozen=True)
class Affinity:
    """Row i, column j: what task i does to task j.

    `look_ahead` is the share of its loss that task j loses by a step along task i's gradient alone
    (1 − after / before), `cosine` that of their gradients on the shared parameters; both are means
    over `steps` steps, the first ± `margin` (95 %, as if steps were independent). `groups` are the
    tasks to train together.
    """

    tasks: list[str]
    look_ahead: Matrix
    margin: Matrix
    cosine: Matrix
    steps: int
    groups: list[list[str]]
    gain: float

    @property
    def clear(self) -> list[tuple[str, str]]:
        """The pairs (who acts, on whom) whose effect is larger than its margin."""
        return [
            (one, other)
            for i, one in enumerate(self.tasks)
            for j, other in enumerate(self.tasks)
            if i != j and abs(self.look_ahead[i][j]) > self.margin[i][j] > 0
        ]

    @property
    def certainty(self) -> str:
        """How much of the matrix can be told from chance, in words."""
        pairs = len(self.tasks) * (len(self.tasks) - 1)
        return (
            f"measured on {self.steps} steps; {len(self.clear)} of {pairs} effects on another task "
            "are larger than their margin"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, matrices by name of task."""
        return {
            "tasks": self.tasks,
            "look_ahead": self._by_name(self.look_ahead),
            "margin": self._by_name(self.margin),
            "cosine": self._by_name(self.cosine),
            "steps": self.steps,
            "clear": [list(pair) for pair in self.clear],
            "groups": self.groups,
            "gain": self.gain,
        }

    def _by_name(self, matrix: Matrix) -> dict[str, dict[str, float]]:
        rows = zip(self.tasks, matrix, strict=True)
        return {one: dict(zip(self.tasks, row, strict=True)) for one, row in rows}


def measure_affinity(
    config: Config,
    networks: int = 2,
    every: int | None = None,
    seed: int = 0,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Affinity:
    """Train `hard` once on a config's tasks; measure now and then, and propose groups.

    Args:
        config: of which `methods` and `seeds` do not count.
        networks: the most groups that are proposed.
        every: steps between measurements, each of which costs about as much as one more step per
            task; 10, or fewer where the run would be over before it is measured 30 times.
        seed: of the run.
        on_epoch: told the number of every epoch that is over.

    Raises:
        UserError: the config is wrong, or has a single task, or one with phases of its own.
        Diverged: a loss became NaN or infinite.
    """
    if len(config.tasks) < 2:
        raise UserError.at(config.place("tasks"), "got one task; expected two or more to compare")
    prepare_process()
    run = Run.alone(config, default_entry(METHOD, []), seed)
    phases = run.plan(run.untrained_single_paths)
    if len(phases) > 1:
        task = next(t for t in run.tasks.values() if type(t).planned is not Task.planned)
        raise UserError.at(
            config.place(f"tasks.{task.name}"),
            f"{task.kind} trains in phases of its own; expected tasks that learn in one.",
            f"Leave it out: tasks.{task.name}=null.",
        )
    (phase,) = phases
    loop = _Watched(config, run.method, run.data, run.world, phase, seed, lambda _: None)
    most = max(1, min(10, phase.epochs * loop.steps // MEASUREMENTS))
    loop.probe = Probe(list(run.tasks), every or most)
    while not loop.is_done:
        loop.run_epoch()
        on_epoch(loop.epoch)
    probe = loop.probe
    look_ahead, margin = probe.effects.mean_and_margin()
    cosine, _ = probe.cosines.mean_and_margin()
    groups, gain = propose(look_ahead, networks)
    named = [[probe.tasks[i] for i in group] for group in groups]
    return Affinity(probe.tasks, look_ahead, margin, cosine, probe.steps, named, gain)


class _Watched(Loop):
    """A loop whose steps are measured before they are taken."""

    probe: Probe

    def step(self, batch: Batch, only: str | None = None) -> None:
        if self.updates % self.probe.every == 0:
            self.probe.measure(self, batch)
        super().step(batch, only)


class Sums:
    """What was measured for pairs of tasks: how often, the sum and the sum of squares."""

    def __init__(self, count: int) -> None:
        self.count, self.total, self.squares = torch.zeros(3, count, count, dtype=torch.float64)

    def add(self, i: int, j: int, value: float) -> None:
        """Add a measurement of a pair."""
        self.count[i, j] += 1
        self.total[i, j] += value
        self.squares[i, j] += value**2

    def mean_and_margin(self) -> tuple[Matrix, Matrix]:
        """Means and 1.96 standard errors; 0 for tasks that were never in a batch together."""
        count = self.count.clamp(min=1)
        mean = self.total / count
        variance = (self.squares / count - mean**2).clamp(min=0) / (count - 1).clamp(min=1)
        return mean.tolist(), (1.96 * variance.sqrt()).tolist()


class Probe:
    """Measures every pair of tasks: the one that acts, and the one that it acts on."""

    def __init__(self, tasks: list[str], every: int) -> None:
        self.tasks, self.every = tasks, every
        self.steps = 0
        self.effects, self.cosines = Sums(len(tasks)), Sums(len(tasks))

    def measure(self, loop: Loop, batch: Batch) -> None:
        """Measure on one batch; the network is left as it was found."""
        batch = batch.to(loop.world.device)
        shared = [p for p in loop.parameters.values() if p in loop.method.shared()]
        rate = loop.train.optimizer.lr * loop.lr.at(loop.epoch * loop.steps + loop.step_in_epoch)
        with _left_as_it_was(loop.method):
            losses = _losses(loop, batch)
            before = {task: float(loss.detach()) for task, loss in losses.items()}
            gradients = {task: _gradient(loss, shared) for task, loss in losses.items()}
            for one, gradient in gradients.items():
                after = _losses_after(loop, batch, shared, gradient, rate)
                for other, loss in before.items():
                    i, j = self.tasks.index(one), self.tasks.index(other)
                    self.effects.add(i, j, 1 - after[other] / loss if loss else 0.0)
                    self.cosines.add(i, j, _cosine(gradient, gradients[other]))
        self.steps += 1


def _losses(loop: Loop, batch: Batch) -> dict[str, Tensor]:
    method = loop.method
    loop.world.seed(loop.updates)  # the same dropout in every pass
    with loop.world.autocast():
        outputs = method(batch)
        found = StepLosses(method.tasks, batch, outputs, [], loop.world, loop.train.loss)
    return found.losses


def _gradient(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@torch.no_grad()
def _losses_after(
    loop: Loop, batch: Batch, shared: list[nn.Parameter], gradient: list[Tensor], rate: float
) -> dict[str, float]:
    """The losses of all tasks one step down the gradient of one."""
    kept = [parameter.clone() for parameter in shared]
    for parameter, slope in zip(shared, gradient, strict=True):
        parameter.sub_(slope, alpha=rate)
    losses = {task: float(loss) for task, loss in _losses(loop, batch).items()}
    for parameter, before in zip(shared, kept, strict=True):
        parameter.copy_(before)
    return losses


def _cosine(one: list[Tensor], other: list[Tensor]) -> float:
    dot, own, its = (
        sum(float(torch.dot(a.flatten(), b.flatten())) for a, b in zip(x, y, strict=True))
        for x, y in ((one, other), (one, one), (other, other))
    )
    return dot / (own * its) ** 0.5 if own * its > 0 else 0.0


@contextmanager
def _left_as_it_was(method: nn.Module) -> Iterator[None]:
    """Running statistics inside are those of before again afterwards."""
    kept = {name: value.clone() for name, value in method.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in method.named_buffers():
                value.copy_(kept[name])

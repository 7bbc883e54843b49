"""Temporal task ensemble: every task trains its own copy of the shared weights, which then meet.

Source: Kim, Lee, Song, ICCV Workshops 2019, eq. 7 to 10.
Differs from the paper: copies take their steps in turn on the batches of joint training, so that a
step has the learning rate and the images it would have there; which task is first and which is last
is drawn anew each epoch. Several processes train a share of the copies each, on whole batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from polytask.backbones.staged import StagedBackbone, before_shrinking
from polytask.batch import Batch, moved
from polytask.config.update import TemporalEnsemble
from polytask.errors import UserError
from polytask.randomness import counter_hash, stable_hash
from polytask.training.copies import Copy, Meeting, alone, owners, swapped, with_momentum
from polytask.training.ensemble import combine, loss_ratios
from polytask.training.norms import relearn
from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


class Rule(UpdateRule):
    """An epoch trains a copy of the shared weights per task, then makes them one.

    By `schedule: sequential` a task starts from where the one before it ended, the order being
    drawn anew each epoch; what is not of the ensemble is then that of the last task.

    Convolutions before the map shrinks (`layers: pools`), or all shared weights, become the
    ensemble of equation 9; other shared weights the mean of the copies; a buffer that one copy
    alone changed is that copy's. What is scored and kept is the average over `average` epochs
    (equation 10), with statistics of batch norm learned anew; training goes on from the ensemble.
    A task alone trains as it would by `joint`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.how = TemporalEnsemble(**options)
        self.copies: dict[str, Copy] = {}
        self.before: dict[str, float] = {}
        self.history: list[dict[str, Tensor]] = []
        self.found: dict[str, float] = {}
        self.start: dict[str, Tensor] = {}  # the ensemble that a chain began its epoch from
        self.meeting: Meeting | None = None

    # Training.

    def run(self, loop: Loop, start: int) -> None:
        shared = self._shared(loop)
        if not (self._is_alone(loop) or self._ensemble_names(loop, shared)):
            problem = f"leaves none of the weights to train that update.layers: {self.how.layers}"
            raise UserError.at("train.trainable", f"{problem} combines.", "Set update: joint.")
        if self._is_alone(loop):
            for batch in self.batches(loop, start):
                loop.step(batch)
                loop.tick()
        elif self.how.schedule == "sequential":
            self._chain(loop, start, shared)
        else:
            self._side_by_side(loop, start, shared)
        losses = loop.mean_losses()
        if not self._is_alone(loop):
            self._combine(loop, shared, losses)
        self.before = losses
        kept = self._ensemble_names(loop, shared)
        self.history.append({name: shared[name].detach().clone() for name in kept})
        self.history = self.history[-self.how.average :]
        if self.how.feedback:
            for name, value in self._average().items():
                _write(shared[name], value)

    def _side_by_side(self, loop: Loop, start: int, shared: Mapping[str, nn.Parameter]) -> None:
        """Every task trains its copy from the ensemble on; each process those that are its own."""
        mine = self._mine(loop)
        self.meeting = Meeting(loop) if self._is_split(loop) else None
        for batch in self.batches(loop, start, only=mine):
            with alone(loop) if self.meeting else nullcontext():
                for task in batch.tasks:
                    if task in mine:
                        self._step(loop, task, shared, batch)
            loop.tick()
        self.meet(loop)
        self.meeting = None

    def _tasks(self, loop: Loop) -> list[str]:
        return list(loop.phase.tasks or loop.method.tasks)

    def _is_split(self, loop: Loop) -> bool:
        """Whether processes share out the copies; else they share out the images of a step, as
        they must where a balancer learns from all tasks."""
        is_plain = not loop.balancer.state_dict()
        return is_plain and 1 < loop.world.size <= len(self._tasks(loop))

    def _mine(self, loop: Loop) -> list[str]:
        tasks = self._tasks(loop)
        if not self._is_split(loop):
            return tasks
        return [task for task, rank in owners(loop, tasks).items() if rank == loop.world.rank]

    def meet(self, loop: Loop) -> None:
        if self.meeting is not None:
            self.meeting.hold(loop, self._shared(loop), self.copies, self._mine(loop))

    def _chain(self, loop: Loop, start: int, shared: Mapping[str, nn.Parameter]) -> None:
        """One task after another trains for an epoch of batches, K steps for each of a joint one's.

        So a chain has the steps and the learning rates of copies side by side.
        """
        order, length = self._order(loop), self.steps(loop)
        for turn in range(start * len(order), length * len(order)):
            task, at = order[turn // length], turn % length
            if turn == 0:
                self.start = {name: p.detach().clone() for name, p in shared.items()}
            if at == 0 or turn == start * len(order):
                batches = self.batches(loop, at, only=[task])
            copy, batch = self.copies.setdefault(task, Copy()), next(batches).of([task])
            if batch.groups:
                with with_momentum(loop, shared, copy.momentum):
                    loop.step(batch)
            if at == length - 1:
                copy.tensors = {n: p.detach().clone() for n, p in shared.items()}
            if (turn + 1) % len(order) == 0:
                loop.tick()

    def _order(self, loop: Loop) -> list[str]:
        """The tasks in the order of the epoch, which decides which one is first and which last."""
        tasks = self._tasks(loop)
        key = stable_hash(loop.seed, loop.phase.name, "ensemble", loop.epoch)
        return [tasks[k] for k in np.argsort(counter_hash(key, np.arange(len(tasks))))]

    def _is_alone(self, loop: Loop) -> bool:
        return len(self._tasks(loop)) == 1

    def _shared(self, loop: Loop) -> dict[str, nn.Parameter]:
        """Trained parameters of two tasks or more by name; of one task, all but its head's."""
        method = loop.method
        if self._is_alone(loop):
            own = set(method.parameters()) - set(method.heads.parameters())
        else:
            own = method.shared() | set(loop.modules.parameters())
        return {name: p for name, p in loop.parameters.items() if p in own}

    def _step(
        self, loop: Loop, task: str, shared: Mapping[str, nn.Parameter], batch: Batch
    ) -> None:
        copy = self.copies.setdefault(task, Copy())
        live = {**shared, **dict(loop.method.named_buffers())}
        if not copy.tensors:
            copy.tensors = {name: tensor.detach().clone() for name, tensor in live.items()}
        with swapped(live, copy.tensors), with_momentum(loop, shared, copy.momentum):
            loop.step(batch.of([task]))

    def _combine(
        self, loop: Loop, shared: Mapping[str, nn.Parameter], losses: Mapping[str, float]
    ) -> None:
        tasks = [task for task in self._tasks(loop) if task in losses]
        copies = [self.copies[task].tensors for task in tasks]
        ratios = loss_ratios(
            [losses[t] for t in tasks], [self.before.get(t, losses[t]) for t in tasks]
        )
        order = [task for task in self._order(loop) if task in tasks]
        ends = (tasks.index(order[0]), tasks.index(order[-1]))
        names = self._ensemble_names(loop, shared)
        start = self.start or shared
        alphas, impacts, betas = [], [], []
        for group in [[name] for name in names] if self.how.per_layer else [names]:
            stacked = torch.stack([_flat([copy[n] for n in group]) for copy in copies])
            made = combine(_flat([start[n] for n in group]), stacked, ratios, ends, self.how)
            _unflatten(made.weights, [shared[n] for n in group])
            alphas.append(made.alpha)
            impacts.append(made.impact)
            betas.append(made.beta)
        alpha, impact = torch.stack(alphas).mean(0), torch.stack(impacts).mean(0)
        if not self.start:  # of a chain, what is left is the last task's
            for name in shared.keys() - set(names):
                _write(shared[name], torch.stack([copy[name] for copy in copies]).mean(0))
            for name, buffer in loop.method.named_buffers():
                _write(buffer, _merged(buffer, [copy[name] for copy in copies], alpha))
        self.start = {}
        for copy in self.copies.values():
            copy.tensors = {}
        self.found = {f"impact/{task}": float(m) for task, m in zip(tasks, impact, strict=True)}
        self.found |= {f"alpha/{task}": float(a) for task, a in zip(tasks, alpha, strict=True)}
        self.found["beta"] = sum(betas) / len(betas)

    def _ensemble_names(self, loop: Loop, shared: Mapping[str, nn.Parameter]) -> list[str]:
        """The parameters that the ensemble acts on."""
        if self.how.layers == "all":
            return list(shared)
        chosen = {
            parameter
            for part in loop.method.modules()
            if isinstance(part, StagedBackbone)
            for layer in before_shrinking(part)
            for parameter in layer.parameters(recurse=False)
        }
        return [name for name, p in shared.items() if p in chosen]

    # What is scored and kept.

    @contextmanager
    def scored(self, loop: Loop) -> Iterator[None]:
        shared = self._shared(loop)
        live = {**shared, **dict(loop.method.named_buffers())}
        kept = {name: tensor.detach().clone() for name, tensor in live.items()}
        self._export(loop, shared)
        yield
        for name, tensor in live.items():
            _write(tensor, kept[name])

    def finish(self, loop: Loop) -> None:
        self._export(loop, self._shared(loop))

    def _export(self, loop: Loop, shared: Mapping[str, nn.Parameter]) -> None:
        for name, value in self._average().items():
            _write(shared[name], value)
        if self.how.norm_batches:
            with alone(loop) if self._is_split(loop) else nullcontext():
                relearn(loop, [loop.method], self.how.norm_batches)

    def _average(self) -> dict[str, Tensor]:
        """Equation 10; the mean of what there is before `average` epochs are over."""
        if len(self.history) < 2:
            return {}
        return {
            name: torch.stack([entry[name] for entry in self.history]).mean(0)
            for name in self.history[0]
        }

    def measured(self) -> dict[str, float]:
        return self.found

    # State.

    def state_dict(self) -> dict[str, Any]:
        copies = {t: {"tensors": c.tensors, "momentum": c.momentum} for t, c in self.copies.items()}
        return {
            "copies": copies,
            "before": self.before,
            "history": self.history,
            "found": self.found,
            "start": self.start,
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.copies = {task: Copy(**copy).to(device) for task, copy in state["copies"].items()}
        self.before, self.history = dict(state["before"]), moved(state["history"], device)
        self.found, self.start = dict(state["found"]), moved(state["start"], device)


def _merged(base: Tensor, copies: list[Tensor], alpha: Tensor) -> Tensor:
    """A buffer of all copies: that of the one that changed it; else by α, or the largest count."""
    changed = [copy for copy in copies if not torch.equal(copy, base)]
    if len(changed) == 1:
        return changed[0]
    if not base.is_floating_point():
        return torch.stack(copies).amax(0)
    return torch.einsum("k,k...->...", alpha.to(base), torch.stack(copies))


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _unflatten(values: Tensor, tensors: list[Tensor]) -> None:
    parts = torch.split(values, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        _write(tensor, part.view(tensor.shape))


def _write(tensor: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        tensor.copy_(value)

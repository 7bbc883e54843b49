"""Temporal task ensemble: every task trains its own copy of the shared weights, which then meet.

Source: Kim, Lee, Song, eq. 7 to 10.
Differs from the paper: copies take their steps in turn on the batches of joint training, so that a
step has the learning rate and the images it would have there; which task is first and which is last
is drawn anew each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from polytask.backbones.norm import BatchNorm
from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch
from polytask.config.update import TemporalEnsemble
from polytask.randomness import counter_hash, stable_hash
from polytask.training.ensemble import combine, loss_ratios
from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop


@dataclass
class Copy:
    """A task's own shared weights and buffers, made anew each epoch, and its optimizer's state of
    those weights, which lasts."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    momentum: dict[str, dict[str, Any]] = field(default_factory=dict)


class Rule(UpdateRule):
    """An epoch trains a copy of the shared weights per task, then makes them one.

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

    # Training.

    def run(self, loop: Loop, start: int) -> None:
        shared = self._shared(loop)
        for batch in self.batches(loop, start):
            for task in batch.tasks:
                if self._is_alone(loop):
                    loop.step(batch)
                else:
                    self._step(loop, task, shared, batch)
            loop.tick()
        losses = {task: loop.sums[task] / loop.counts[task] for task in loop.sums}
        if not self._is_alone(loop):
            self._combine(loop, shared, losses)
        self.before = losses
        kept = self._ensemble_names(loop, shared)
        self.history.append({name: shared[name].detach().clone() for name in kept})
        self.history = self.history[-self.how.average :]
        if self.how.feedback:
            for name, value in self._average().items():
                _write(shared[name], value)

    def _is_alone(self, loop: Loop) -> bool:
        return len(loop.phase.tasks or loop.method.tasks) == 1

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
        with _swapped(live, copy.tensors), _momentum(loop, shared, copy.momentum):
            loop.step(batch.of([task]))

    def _combine(
        self, loop: Loop, shared: Mapping[str, nn.Parameter], losses: Mapping[str, float]
    ) -> None:
        tasks = [task for task in losses if task in self.copies]
        copies = [self.copies[task].tensors for task in tasks]
        ratios = loss_ratios(
            [losses[t] for t in tasks], [self.before.get(t, losses[t]) for t in tasks]
        )
        key = stable_hash(loop.seed, loop.phase.name, "ensemble", loop.epoch)
        order = np.argsort(counter_hash(key, np.arange(len(tasks))))
        ends = (int(order[0]), int(order[-1]))
        names = self._ensemble_names(loop, shared)
        alphas, impacts, betas = [], [], []
        for group in [[name] for name in names] if self.how.per_layer else [names]:
            stacked = torch.stack([_flat([copy[n] for n in group]) for copy in copies])
            made = combine(_flat([shared[n] for n in group]), stacked, ratios, ends, self.how)
            _unflatten(made.weights, [shared[n] for n in group])
            alphas.append(made.alpha)
            impacts.append(made.impact)
            betas.append(made.beta)
        alpha, impact = torch.stack(alphas).mean(0), torch.stack(impacts).mean(0)
        for name in shared.keys() - set(names):
            _write(shared[name], torch.stack([copy[name] for copy in copies]).mean(0))
        for name, buffer in loop.method.named_buffers():
            _write(buffer, _merged(buffer, [copy[name] for copy in copies], alpha))
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
            relearn_norms(loop, self.how.norm_batches)

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
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.copies = {task: Copy(**copy) for task, copy in state["copies"].items()}
        self.before, self.history = dict(state["before"]), list(state["history"])
        self.found = dict(state["found"])


def before_shrinking(backbone: StagedBackbone) -> list[nn.Conv2d]:
    """The last convolution of each unit after which the map shrinks, by a pool or a stride; of the
    last unit too, which global pooling follows. Shortcuts do not count."""
    found = []
    strides = [backbone.info[name].stride for name in backbone.names]
    following = [*strides[1:], strides[-1] + 1]
    for (_, unit), stride, after in zip(backbone, strides, following, strict=True):
        inside = [
            layer
            for name, layer in unit.named_modules()
            if isinstance(layer, nn.Conv2d) and not name.startswith(("downsample", "shortcut"))
        ]
        if after > stride:
            found += inside[-1:]
    return found


@torch.no_grad()
def relearn_norms(loop: Loop, batches: int) -> None:
    """Learn the statistics of batch norms anew, as plain means over some training batches."""
    method = loop.method
    was_training = method.training
    method.train()
    norms = [m for m in method.modules() if isinstance(m, BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
        for key in norm.keys if norm.is_split else ("",):
            norm.bank(key).batches.zero_()
    loop.world.seed(stable_hash(loop.seed, loop.phase.name, "norm"))
    stream = loop.rule.batches(loop, 0)
    for _, batch in zip(range(batches), stream, strict=False):
        with loop.world.autocast():
            method(loop.own(batch))
    stream.close()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    method.train(was_training)


@contextmanager
def _swapped(live: Mapping[str, Tensor], other: dict[str, Tensor]) -> Iterator[None]:
    """Let the network's tensors be other ones inside; the others keep what became of them."""
    own = {name: tensor.data for name, tensor in live.items()}
    for name, tensor in live.items():
        tensor.data = other[name]
    try:
        yield
    finally:
        for name, tensor in live.items():
            tensor.data = own[name]


@contextmanager
def _momentum(
    loop: Loop, shared: Mapping[str, nn.Parameter], own: dict[str, dict[str, Any]]
) -> Iterator[None]:
    """Let the optimizers have a copy's state of the shared weights inside."""
    states = {
        p: member.state
        for member in loop.optimizers.members
        for group in member.param_groups
        for p in group["params"]
    }
    for name, parameter in shared.items():
        if name in own:
            states[parameter][parameter] = own[name]
    try:
        yield
    finally:
        for name, parameter in shared.items():
            state = states[parameter].pop(parameter, None)
            if state:
                own[name] = state


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

"""The loop: phases, epochs and steps, resumable at every step."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from polytask.backbones.norm import BatchNorm
from polytask.balancing import build as build_balancer
from polytask.batch import Batch
from polytask.data.slicing import slice_batch
from polytask.errors import Diverged
from polytask.phase import ParameterGroup, Phase
from polytask.randomness import stable_hash
from polytask.sharing.grouped import inner_name
from polytask.sharing.method import SharingMethod
from polytask.training.losses import StepLosses
from polytask.training.optimizers import LearningRate, Optimizers
from polytask.training.rules import build as build_rule
from polytask.training.world import World

if TYPE_CHECKING:
    from polytask.config.models import Config
    from polytask.config.train import TrainConfig
    from polytask.data.pipeline import Data

# What `train.trainable` says in a word, as patterns of the method's parameter names.
TRAINABLE = {
    "all": [""],
    "heads": [r"^heads\."],
    "filters": [r"^(filters|adapters|heads)\."],
}


class Loop:
    """One phase in training; what the method's hooks and the update rules see as `run`."""

    def __init__(
        self,
        config: Config,
        method: SharingMethod,
        data: Data,
        world: World,
        phase: Phase,
        seed: int,
        after_step: Callable[[Loop], None],
    ) -> None:
        self.config, self.method, self.data, self.world = config, method, data, world
        self.phase, self.seed = phase, seed
        self.after_step = after_step
        self.train: TrainConfig = config.train.model_copy(update=dict(phase.train))
        self.modules = nn.ModuleDict(dict(phase.modules)).to(world.device)
        self.epoch = 0
        self.step_in_epoch = 0
        self.updates = 0
        self.images = dict.fromkeys(method.tasks, 0)
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.last_losses: dict[str, float] = {}
        self.rule = build_rule(phase.update)
        # What runs in the method's place need not reach the parameters that a balancer looks at.
        chosen = method.options.balancing or config.balancing
        balancing = chosen if phase.forward is None else "equal"
        self.balancer = build_balancer(balancing, method, world.size).to(world.device)
        self.parameters = self._trainable()
        self.optimizers = Optimizers(
            {
                **self.parameters,
                **{f"balancer.{n}": p for n, p in self.balancer.named_parameters()},
            },
            [*phase.groups, ParameterGroup(r"^balancer\.", weight_decay=0.0)],
            self.train.optimizer.model_dump(),
        )
        self.steps = self.rule.steps(self)
        self.lr = LearningRate(
            self.train.schedule.model_dump(), self.train.warmup, phase.epochs, self.steps
        )
        self._freeze()

    def _trainable(self) -> dict[str, nn.Parameter]:
        """The parameters of this phase by name; all others stop asking for gradients."""
        chosen = {}
        named = [*self.method.named_parameters()]
        named += [(f"modules.{n}", p) for n, p in self.modules.named_parameters()]
        patterns = self.phase.trainable
        chosen_by_config = self.train.trainable
        wanted = (
            TRAINABLE[chosen_by_config] if isinstance(chosen_by_config, str) else chosen_by_config
        )
        for name, parameter in named:
            trains = any(re.search(pattern, name) for pattern in patterns)
            if not name.startswith("modules."):
                inside = inner_name(name)
                trains = trains and any(re.search(pattern, inside) for pattern in wanted)
            parameter.requires_grad_(trains)
            if trains:
                chosen[name] = parameter
        return chosen

    def _freeze(self) -> None:
        """Frozen means no gradient and batch norm in eval (DESIGN, Phase)."""
        self.method.train()
        for norm in (m for m in self.method.modules() if isinstance(m, BatchNorm)):
            own = list(norm.parameters(recurse=False))
            norm.freeze(bool(own) and not any(p.requires_grad for p in own))
        for module in self.modules.values():
            module.train(any(p.requires_grad for p in module.parameters()))

    # One step.

    def step(self, batch: Batch, only: str | None = None) -> None:
        """One update from a batch; `only` is a pattern of the parameters that it may change."""
        method, world = self.method, self.world
        key = stable_hash(self.seed, self.phase.name, self.epoch, self.step_in_epoch)
        world.seed(key)
        self.optimizers.scale(self.lr.at(self.epoch * self.steps + self.step_in_epoch))
        self._count(batch)
        batch = self.own(batch)
        if self.train.channels_last:
            for group in batch.groups:
                group.images = group.images.contiguous(memory_format=torch.channels_last)
        self.optimizers.zero_grad()
        waiting = self._waiting(only)
        if self.balancer.weighs_losses:
            _ask(waiting, False)
        method.before_forward(self)
        self.balancer.on_step(key, method)
        if world.size > 1:  # dropout differs between processes, as between images
            world.seed(stable_hash(key, world.rank))
        with world.autocast():
            if self.phase.forward is None:
                outputs = method(batch)
                terms = method.extra_losses(batch, outputs)
            else:
                outputs, terms = self.phase.forward(method, batch), []
            for make in self.phase.terms:
                terms += make(batch, outputs)
            found = StepLosses(method.tasks, batch, outputs, terms, world, self.train.loss)
        self._note(found)
        self.balancer.on_outputs(method, batch, outputs, world)
        self.balancer.backward(found.losses, method, found.penalty, world, found.values)
        _ask(waiting, True)
        for parameter in waiting:
            parameter.grad = None
        world.sum_gradients(self.optimizers.parameters)
        method.after_backward(self)
        if self.train.clip is not None:
            self._clip(self.train.clip)
        method.before_step(self)
        self.optimizers.step()
        method.after_step(self)
        if not self.train.sync_norm:
            world.copy(method.buffers())
        self.updates += 1

    def _waiting(self, only: str | None) -> list[nn.Parameter]:
        """The parameters whose turn it is not."""
        if only is None:
            return []
        return [p for name, p in self.parameters.items() if not re.search(only, name)]

    def own(self, batch: Batch) -> Batch:
        """This process's share of a global batch, on its device."""
        if self.world.size > 1:
            batch = slice_batch(batch, self.world.rank, self.world.size)
        return batch.to(self.world.device)

    def _clip(self, most: float) -> None:
        """Clip each set of parameters that belongs together: columns clip as they would alone."""
        for members in self.method.clip_groups(self.parameters):
            norm = nn.utils.clip_grad_norm_(members, most)
            if not math.isfinite(float(norm)):
                raise Diverged("gradient", self.updates, float(norm))

    def _count(self, batch: Batch) -> None:
        """Count the labelled images of a global batch."""
        for name, group, target in batch:
            self.images[name] += len(group) if target.rows is None else len(target.rows)

    def _note(self, found: StepLosses) -> None:
        """Take in the global losses of a step."""
        for name, value in found.values.items():
            if not math.isfinite(value):
                raise Diverged(name, self.updates, value)
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0.0) + 1
            self.last_losses[name] = value

    def tick(self) -> None:
        """Count a finished step; the state may be saved here."""
        self.step_in_epoch += 1
        self.after_step(self)

    # Epochs.

    def run_epoch(self) -> dict[str, float]:
        """Finish the current epoch; returns each task's mean training loss."""
        self.rule.run(self, self.step_in_epoch)
        losses = self.mean_losses()
        self.method.on_epoch_end(self)
        self.balancer.on_epoch_end(losses)
        self.lr.on_epoch_end(sum(losses.values()))
        self.epoch += 1
        self.step_in_epoch = 0
        self.sums, self.counts = {}, {}
        return losses

    def mean_losses(self) -> dict[str, float]:
        """Each task's mean training loss in the current epoch so far."""
        return {t: self.sums[t] / self.counts[t] for t in self.method.tasks if t in self.sums}

    @property
    def is_done(self) -> bool:
        """Whether the phase's epochs are over, or its condition holds."""
        if self.epoch >= self.phase.epochs:
            return True
        # Also asked when a run resumes, amid an epoch perhaps.
        is_between = self.epoch > 0 and self.step_in_epoch == 0
        return is_between and self.phase.until is not None and self.phase.until(self)

    def state_dict(self) -> dict[str, Any]:
        """All that this phase needs to go on, besides the method itself."""
        return {
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "updates": self.updates,
            "images": dict(self.images),
            "sums": dict(self.sums),
            "counts": dict(self.counts),
            "optimizers": self.optimizers.state_dict(),
            "lr": self.lr.state_dict(),
            "balancer": self.balancer.state_dict(),
            "modules": self.modules.state_dict(),
            "rule": self.rule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name in ("epoch", "step_in_epoch", "updates", "images", "sums", "counts"):
            setattr(self, name, state[name])
        self.optimizers.load_state_dict(state["optimizers"])
        self.lr.load_state_dict(state["lr"])
        self.balancer.load_state_dict(state["balancer"])
        self.modules.load_state_dict(state["modules"])
        self.rule.load_state_dict(state["rule"], self.world.device)


def _ask(parameters: list[nn.Parameter], for_gradients: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(for_gradients)


class Clock:
    """Seconds since it was started, on top of those of earlier sittings."""

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds in all."""
        return self.before + time.perf_counter() - self.start

"""Optimizers from parameter groups, and learning rates as a function of the step."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from polytask.phase import ParameterGroup

EVERYTHING = ParameterGroup(".*")


def named_optimizer(
    options: Mapping[str, Any],
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The torch class and arguments of a `train.optimizer` entry."""
    name = options["name"]
    given = {key: value for key, value in options.items() if key != "name" and value is not None}
    if name == "sgd":
        keys = ("lr", "momentum", "nesterov", "weight_decay")
        return torch.optim.SGD, {k: given[k] for k in keys if k in given}
    made = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return made, {k: given[k] for k in ("lr", "betas", "weight_decay") if k in given}


class Optimizers:
    """All optimizers of a phase, stepped together.

    A parameter belongs to the first group whose pattern matches its name; a group may have an
    optimizer of its own kind. `scale` multiplies every learning rate.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        groups: Sequence[ParameterGroup],
        options: Mapping[str, Any],
    ) -> None:
        patterns = [*groups, EVERYTHING]
        sorted_in: list[list[nn.Parameter]] = [[] for _ in patterns]
        for name, parameter in parameters.items():
            first = next(i for i, g in enumerate(patterns) if re.search(g.pattern, name))
            sorted_in[first].append(parameter)
        self.members: list[torch.optim.Optimizer] = []
        shared: list[dict[str, Any]] = []
        kind, defaults = named_optimizer(options)
        for group, members in zip(patterns, sorted_in, strict=True):
            if not members:
                continue
            if group.optimizer is not None:
                own, arguments = named_optimizer({**options, **group.optimizer})
                arguments["lr"] = arguments["lr"] * group.lr
                self.members.append(own(members, **arguments))
                continue
            entry: dict[str, Any] = {"params": members, "lr": defaults["lr"] * group.lr}
            if group.weight_decay is not None:
                entry["weight_decay"] = group.weight_decay
            shared.append(entry)
        if shared:
            self.members.insert(0, kind(shared, **defaults))
        for member in self.members:
            for entry in member.param_groups:
                entry["base_lr"] = entry["lr"]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every parameter that trains."""
        return [p for m in self.members for group in m.param_groups for p in group["params"]]

    def scale(self, factor: float) -> None:
        """Set every learning rate to `factor` times its start."""
        for member in self.members:
            for entry in member.param_groups:
                entry["lr"] = entry["base_lr"] * factor

    def zero_grad(self) -> None:
        """Drop all gradients, so that parameters no task reaches keep none."""
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One step of every optimizer."""
        for member in self.members:
            member.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """The states, in the order of the optimizers."""
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore what `state_dict` gave."""
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


class LearningRate:
    """The factor on every learning rate: warm-up × schedule, and the plateau's state.

    `schedule` has the name `constant`, `cosine`, `step` (with milestones in epochs and gamma) or
    `plateau` (with patience and factor), which lowers the rate when the training loss has not
    improved for more than `patience` epochs.
    """

    def __init__(self, schedule: Mapping[str, Any], warmup: float, epochs: int, steps: int) -> None:
        self.name = schedule["name"]
        self.entry = schedule
        self.warmup_steps = warmup * steps
        self.total = max(1, epochs * steps)
        self.steps = steps
        self.best = math.inf
        self.waited = 0
        self.lowered = 1.0

    def at(self, step: int) -> float:
        """The factor at a step of the phase, counted from 0."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.name == "cosine":
            done = max(0.0, step - self.warmup_steps) / max(1.0, self.total - self.warmup_steps)
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        if self.name == "step":
            passed = sum(step >= m * self.steps for m in self.entry["milestones"])
            gamma: float = self.entry["gamma"]
            return float(warm * gamma**passed)
        return warm * self.lowered

    def on_epoch_end(self, loss: float) -> None:
        """Tell the plateau the epoch's training loss."""
        if self.name != "plateau":
            return
        if loss < self.best * (1 - 1e-4):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.entry["patience"]:
            self.lowered, self.waited = self.lowered * self.entry["factor"], 0

    def state_dict(self) -> dict[str, float]:
        """What the plateau remembers."""
        return {"best": self.best, "waited": self.waited, "lowered": self.lowered}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore what `state_dict` gave."""
        self.best, self.waited = state["best"], int(state["waited"])
        self.lowered = state["lowered"]

"""Small networks, batches and updates that the tests of trunk methods share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from polytask import backbones, registry
from polytask.backbones.norm import BatchNorm
from polytask.batch import Batch, Input, Target
from polytask.loss import normalised
from polytask.phase import Phase
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

TINY: dict[str, Any] = {"name": "resnet18", "width": 0.0625, "stem": "small"}
QUARTER: dict[str, Any] = {"name": "resnet18", "width": 0.25, "stem": "small"}  # of Park, Lee, Kim
SIDE = 16


def setting_of(
    classes: Mapping[str, int], size: int = SIDE, backbone: Mapping[str, Any] = TINY, **rest: Any
) -> Setting:
    """Classification tasks on one stream."""
    kind = registry.load("tasks", "classification", Task)
    tasks = {
        name: kind(name, kind.Options(kind="classification", classes=count))
        for name, count in classes.items()
    }
    options = dict(backbone)
    maker = partial(backbones.build, options.pop("name"), **options)
    return Setting(tasks, {"all": Input(3, size, size)}, dict.fromkeys(tasks, "all"), maker, **rest)


def build(name: str, classes: Mapping[str, int], given: Any = None, **setting: Any) -> Any:
    """A method by its name with the options `given`."""
    kind: type[SharingMethod] = registry.load("sharing", name, SharingMethod)
    options = kind.Options(**(given or {}))
    made = setting_of(classes, **setting)
    assert kind.refuses(made, options) is None
    return kind(made, options)


def a_batch(method: SharingMethod, count: int = 6, seed: int = 0, size: int = SIDE) -> Batch:
    """Images that carry a label of every task."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator)
    targets = {
        name: Target(torch.randint(0, len(task.classes), (count,), generator=generator))
        for name, task in method.tasks.items()
    }
    return Batch.single(images, next(iter(method.setting.streams)), targets)


def only(batch: Batch, *tasks: str) -> Batch:
    """The batch with the labels of some tasks alone."""
    (group,) = batch.groups
    return Batch.single(group.images, group.stream, {t: group.targets[t] for t in tasks})


def total_loss(method: SharingMethod, batch: Batch) -> torch.Tensor:
    """The sum of the tasks' mean losses."""
    predictions = method(batch).predictions
    parts = []
    for task, _, target in batch:
        loss, weight = method.tasks[task].loss(predictions[task], target.value)
        parts.append(normalised(loss, weight.sum()))
    return torch.stack(parts).sum()


def gradients(method: SharingMethod, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of a loss by parameter."""
    method.zero_grad(set_to_none=True)
    loss.backward()
    return {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}


def train(method: SharingMethod, steps: int = 3, lr: float = 0.05) -> SharingMethod:
    """A few joint updates with momentum and decay, then eval."""
    optimizer = torch.optim.SGD(method.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    method.train()
    for step in range(steps):
        optimizer.zero_grad()
        total_loss(method, a_batch(method, seed=step)).backward()
        optimizer.step()
    return method.eval()


def run_phase(method: SharingMethod, phase: Phase, steps: int = 3, lr: float = 0.05) -> None:
    """What the loop does in a phase: freeze, hooks, updates with momentum and decay."""
    train = SimpleNamespace(clip=None)
    run = SimpleNamespace(phase=phase, train=train, seed=0, epoch=0, step_in_epoch=0)
    trained = []
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(any(re.search(pattern, name) for pattern in phase.trainable))
        if parameter.requires_grad:
            trained.append(parameter)
    for norm in (m for m in method.modules() if isinstance(m, BatchNorm)):
        norm.freeze(not any(p.requires_grad for p in norm.parameters(recurse=False)))
    method.train()
    method.on_phase_start(run)
    optimizer = torch.optim.SGD(trained, lr, momentum=0.9, weight_decay=5e-4)
    for step in range(steps):
        run.step_in_epoch = step
        optimizer.zero_grad()
        method.before_forward(run)
        batch = a_batch(method, seed=step)
        total_loss(method, only(batch, *(phase.tasks or method.tasks))).backward()
        method.after_backward(run)
        method.before_step(run)
        optimizer.step()
        method.after_step(run)
    method.on_epoch_end(run)
    method.on_phase_end(run)


@torch.no_grad()
def predictions(method: SharingMethod, batch: Batch) -> dict[str, torch.Tensor]:
    """What a method says in eval mode."""
    return method.eval()(batch).predictions

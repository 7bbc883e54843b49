"""Three tasks on a sixteenth of ResNet-18, and batches with and without some of their labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from polytask import backbones, registry, tasks
from polytask.batch import Batch, Group, Input, Target
from polytask.loss import normalised
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

CLASSES = {"animal": 3, "colour": 4, "shape": 5}
TASKS = tuple(CLASSES)
SHAPES = ("single_input", "integrated", "multi_input", "one_absent", "two_absent")
EXITS = {"exits": {"animal": "layer2", "colour": "layer3", "shape": "layer4"}}
METHODS: dict[str, dict[str, Any]] = {"single": {}, "hard": {"filter": True}, "multi_exit": EXITS}


def three_tasks() -> dict[str, Task]:
    kind = registry.load("tasks", "classification", Task)
    options = {t: kind.Options(kind="classification", classes=k) for t, k in CLASSES.items()}
    return tasks.build(options)


def method_of(name: str, shape: str = "single_input") -> SharingMethod:
    streams = (
        {t: Input(3, 8, 8) for t in TASKS} if shape == "multi_input" else {"all": Input(3, 8, 8)}
    )
    setting = Setting(
        tasks=three_tasks(),
        streams=streams,
        stream_of={t: t if shape == "multi_input" else "all" for t in TASKS},
        backbone=partial(backbones.build, "resnet18", width=0.0625, stem="small"),
        norm="per_data" if shape == "multi_input" else "mixed",
    )
    kind: type[SharingMethod] = registry.load("sharing", name, SharingMethod)
    return kind(setting, kind.Options(**METHODS[name])).train()


def batch_of(shape: str, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def group(stream: str, rows: dict[str, list[int] | None]) -> Group:
        targets = {}
        for task, chosen in rows.items():
            count = 6 if chosen is None else len(chosen)
            value = torch.randint(0, CLASSES[task], (count,), generator=generator)
            targets[task] = Target(value, None if chosen is None else torch.tensor(chosen))
        images = torch.randn(6, 3, 8, 8, generator=generator)
        return Group(images, torch.arange(6), stream, targets)

    if shape == "multi_input":
        return Batch([group(task, {task: None}) for task in TASKS])
    rows: dict[str, dict[str, list[int] | None]] = {
        "single_input": dict.fromkeys(TASKS),
        "integrated": {"animal": [0, 1, 4], "colour": [1, 2], "shape": [0, 3, 5]},
        "one_absent": {"animal": None, "colour": [0, 2]},
        "two_absent": {"colour": None},
    }
    return Batch([group("all", rows[shape])])


def losses_of(method: SharingMethod, batch: Batch) -> dict[str, Tensor]:
    """Mean loss of every task in the batch."""
    predictions = method(batch).predictions
    found = {}
    for task, _, target in batch:
        loss, weight = method.tasks[task].loss(predictions[task], target.value)
        found[task] = normalised(loss, weight.sum())
    return found


def gradients(method: SharingMethod) -> dict[str, Tensor | None]:
    """The gradient of every parameter by name, which is then dropped."""
    found = {n: None if p.grad is None else p.grad.clone() for n, p in method.named_parameters()}
    method.zero_grad(set_to_none=True)
    return found


def plain_gradients(method: SharingMethod, batch: Batch) -> dict[str, Tensor | None]:
    """Those of the sum of all losses."""
    torch.stack(list(losses_of(method, batch).values())).sum().backward()
    return gradients(method)

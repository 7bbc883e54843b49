"""What a teacher's answer teaches a student, by the kind of task.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, for classes;
answers without a distribution (boxes, depths, directions, numbers) are labels like the true ones.

Each takes the task, the student's and the teacher's answer, the target and the temperature, and
gives the loss [R] of each labelled image as the task's own loss does: a sum over what is labelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from polytask.data.augment import IGNORED
from polytask.distill.soft_targets import soft_label_loss, soft_target_loss
from polytask.tasks.task import Task

Soft: TypeAlias = "Callable[[Task, Tensor, Tensor, Any, float], Tensor]"


def _classes(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    del task, target
    return soft_target_loss(own, taught, t, t2=True)


def _labels(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    del task, target
    return soft_label_loss(own, taught, t, t2=True)


def _mask(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    """Σ over the valid pixels of an image."""
    del task
    each = soft_target_loss(own.movedim(1, -1), taught.movedim(1, -1), t, t2=True)
    valid: Tensor = target["mask"] != IGNORED
    return (each * valid).flatten(1).sum(1)


def _box(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    del t
    scale = target["size"].repeat(1, 2)
    loss, weight = task.loss(own, {**target, "boxes": taught.clamp(0, 1) * scale})
    _, wanted = task.loss(own, target)
    each: Tensor = loss * (weight * wanted)
    return each


def _depth(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    """Σ over the pixels whose depth is known."""
    del t
    loss, _ = task.loss(own, {**target, "depth": taught * (target["depth"] > 0)})
    return loss


def _normals(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    """Σ over the pixels whose direction is known."""
    del t
    known = (target["normals"] != 0).any(1, keepdim=True)
    loss, _ = task.loss(own, {**target, "normals": taught * known})
    return loss


def _numbers(task: Task, own: Tensor, taught: Tensor, target: Any, t: float) -> Tensor:
    """The numbers that are known."""
    del t
    loss, _ = task.loss(own, torch.where(target.isnan(), target, taught))
    return loss


SOFT: dict[str, Soft] = {
    "classification": _classes,
    "multilabel": _labels,
    "segmentation": _mask,
    "box": _box,
    "depth": _depth,
    "normals": _normals,
    "regression": _numbers,
}

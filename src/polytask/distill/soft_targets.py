"""Soft targets: the student matches the teacher's softened class probabilities.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; the direction
and scaling options follow Park, Lee, Kim, IEEE Access 2022, eq. 4-5.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Direction = Literal["teacher_student", "student_teacher"]


def soft_target_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 2.0,
    direction: Direction = "teacher_student",
    t2: bool = False,
) -> Tensor:
    """KL between softened class distributions of logits [R, …, K], one value for each [R, …].

    `teacher_student` is KL(teacher ‖ student); `t2` multiplies by temperature², which keeps the
    size of gradients independent of it. No gradient reaches the teacher.
    """
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.detach() / temperature, dim=-1)
    if direction == "student_teacher":
        log_student, log_teacher = log_teacher, log_student
    loss = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
    return loss * temperature**2 if t2 else loss


def soft_label_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 2.0,
    direction: Direction = "teacher_student",
    t2: bool = False,
) -> Tensor:
    """The same for yes/no logits [R, K]: the mean over the labels' two-class divergences [R]."""
    pairs = [torch.stack([logits, torch.zeros_like(logits)], -1) for logits in (student, teacher)]
    return soft_target_loss(pairs[0], pairs[1], temperature, direction, t2).mean(1)


def latent_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(v_t / T) ‖ softmax(v_s / T)) of pooled features [R, C], one value each [R].

    For teachers without classes: their channels take the place of classes (Kim, Lee, Song train
    theirs without labels and do not say how such a one has soft targets).
    """
    return soft_target_loss(student, teacher, temperature, t2=True)


BY_KIND = {"classification": soft_target_loss, "multilabel": soft_label_loss}

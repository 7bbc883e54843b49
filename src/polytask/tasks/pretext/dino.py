"""DINO: answer to one view of an image as a slow average of the network answers to another.

Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, eq. 1
to 4 and algorithm 1.
Differs from the paper: two views and no small ones; batch norm and ReLU in the head, which suit
convolutions; fewer answers (K = 256 instead of 65536); the teacher's pace and temperature stay the
same, and its batch norms use their running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.tasks.pretext.teacher import Teacher
from polytask.tasks.pretext.two_views import Projection, TwoViews, TwoViewsOptions, by_view
from polytask.tasks.task import FeatureShape, Size

if TYPE_CHECKING:
    from polytask.batch import Batch
    from polytask.loss import Term
    from polytask.phase import Phase
    from polytask.sharing.method import Outputs, SharingMethod


class DinoOptions(TwoViewsOptions):
    """The answers, and how the teacher follows and gives them."""

    answers: int = Field(256, ge=2, le=65536, description="numbers in an answer, K")
    momentum: float = Field(0.99, ge=0, lt=1, description="the teacher's share that stays, a step")
    temperature: float = Field(0.1, gt=0, description="of the network's answers, τ_s")
    sharpening: float = Field(0.04, gt=0, description="temperature of the teacher's answers, τ_t")
    centring: float = Field(0.9, ge=0, lt=1, description="share of the centre that stays, a step")


class Dino(TwoViews):
    """Predicts a dict of `z` [B, 2, D] and `logits` [B, 2, K].

    In training the teacher is a module of the phase, kept with the run's state; where there is none
    (scores, affinity), the network is its own teacher.
    """

    Options = DinoOptions
    options: DinoOptions

    def head(self, features: Sequence[FeatureShape], size: Size) -> nn.Module:
        del size
        chosen = self.options
        return DinoHead(features[-1].channels, chosen.hidden, chosen.outputs, chosen.answers)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        del target
        logits = prediction["logits"]
        loss = self.distance(logits, logits, logits.new_zeros(logits.shape[-1]))
        return loss, torch.ones_like(loss)

    def distance(self, student: Tensor, teacher: Tensor, centre: Tensor) -> Tensor:
        """`cross_view_loss` at the task's temperatures."""
        chosen = self.options
        return cross_view_loss(student, teacher, centre, chosen.temperature, chosen.sharpening)

    def planned(self, phases: Sequence[Phase], method: SharingMethod) -> list[Phase]:
        teacher = Teacher(
            method.path(self.name),
            self.options.answers,
            self.options.momentum,
            self.options.centring,
        )

        def taught(batch: Batch, outputs: Outputs) -> list[Term]:
            return self._taught(teacher, method, batch, outputs)

        return [
            replace(
                phase,
                terms=[*phase.terms, taught],
                modules={**phase.modules, f"teacher_{self.name}": teacher},
            )
            if phase.forward is None
            else phase
            for phase in phases
        ]

    def _taught(
        self, teacher: Teacher, method: SharingMethod, batch: Batch, outputs: Outputs
    ) -> list[Term]:
        from polytask.loss import Term

        for name, group, target in batch:
            if name == self.name and name in outputs.predictions:
                prediction: Any = outputs.predictions[name]
                own, weight = self.loss(prediction, target.value)
                teacher.follow(method.path(name))
                answers = teacher.answers(group.images)
                loss = self.distance(prediction["logits"], answers, teacher.centre)
                teacher.move_centre(answers, method)
                return [Term("teacher", name, loss - own, weight)]  # in place of the task's own
        return []


def cross_view_loss(
    student: Tensor, teacher: Tensor, centre: Tensor, temperature: float, sharpening: float
) -> Tensor:
    """½ Σ_{v ≠ w} H(softmax((t_v − c) / τ_t), softmax(s_w / τ_s)) of logits [B, 2, K] → [B].

    The teacher gets no gradient.
    """
    wanted = ((teacher.detach() - centre) / sharpening).softmax(-1)
    found = (student / temperature).log_softmax(-1)
    return -(wanted.flip(1) * found).sum(-1).mean(1)


class UnitRows(nn.Linear):
    """Products with rows of length 1."""

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z, F.normalize(self.weight, dim=-1))


class DinoHead(nn.Module):
    """Maps [B, 2, C, H, W] → embeddings of length 1 and the answers made of them, both views'."""

    def __init__(self, inputs: int, hidden: int, outputs: int, answers: int) -> None:
        super().__init__()
        self.projection = Projection([inputs, hidden, hidden, outputs], is_normed=False)
        self.answers = UnitRows(outputs, answers, bias=False)

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        z = F.normalize(by_view(self.projection(maps)), dim=-1)
        return {"z": z, "logits": self.answers(z)}

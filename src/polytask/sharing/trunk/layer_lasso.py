"""Layer selection: each task reads a learned, sparse mixture of the units of one stage.

Source: the multi-task self-supervised baseline (MSVL) of Kim, Lee, Song, ICCV Workshops 2019, §2.2,
after Doersch and Zisserman, "Multi-task Self-Supervised Visual Learning", ICCV 2017.

Their inputs are harmonised, as no task may know by its colours what another one sees: with `grey`
every task sees the lightness alone. Transfer takes the backbone without that step.

Only units whose maps have the shape of the stage's last are mixed. Doersch and Zisserman mix the
third stage of a ResNet-101, its 23 blocks: `stage: layer3`; the trunk's rest is then not used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.batch import Batch, Group
from polytask.errors import UserError, unknown
from polytask.loss import Term
from polytask.sharing.method import Outputs
from polytask.sharing.trunk.phases import OnePhase, PhaseOptions
from polytask.tasks.pretext.patches import LUMA
from polytask.tasks.task import FeatureShape


class LayerLassoOptions(PhaseOptions):
    """What is mixed, and how strongly the mixture is pushed to few units."""

    stage: str | None = Field(None, description="stage whose units are mixed; the last by default")
    l1: float = Field(1e-3, ge=0, description="weight of the L1 penalty on the mixture")
    grey: bool = Field(False, description="show every task its images without colour")


class Mixture(nn.Module):
    """Σ a_m · L_m over the last M maps [..., C, H, W], of equal shape; a starts at 1/M."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.full((maps,), 1 / maps))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        before, (first, *rest) = maps[: -len(self.a)], maps[-len(self.a) :]
        mixed = self.a[0] * first
        for weight, other in zip(self.a[1:], rest, strict=True):
            mixed = torch.addcmul(mixed, weight, other)
        return [*before, mixed]

    def penalty(self) -> Tensor:
        """‖a‖₁."""
        return self.a.abs().sum()


class Grey(nn.Module):
    """Normalised images [B, 3, H, W] without colour: each channel becomes their luma."""

    luma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("luma", torch.tensor(LUMA).float().view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.luma).sum(1, keepdim=True).expand_as(images)


class LayerLasso(OnePhase):
    """The whole trunk is shared; a task's mixture says which units of a stage it reads."""

    Options = LayerLassoOptions
    options: LayerLassoOptions

    def prepare(self) -> None:
        stages = self.backbone.stages
        chosen = self.options.stage or list(stages)[-1]
        if chosen not in stages:
            raise UserError(unknown("stage", "stage", chosen, stages))
        same = {stage: self._alike(stage) for stage in stages}
        served = [stage for stage, units in same.items() if len(units) > 1]
        if not served:
            problem = "no stage of this backbone has two units with maps of one shape to mix."
            raise UserError.at("", problem, "Choose a ResNet or VGG.")
        if chosen not in served:
            last = self.backbone.info[stages[chosen]]
            raise UserError.at(
                "stage",
                f"{chosen} has only {last.name} with maps of {last.channels} channels; "
                "a mixture needs two units or more",
                f"Choose another of {', '.join(served)}.",
            )
        self.mixed = same[chosen]
        self.grey = Grey()

    def _alike(self, stage: str) -> list[str]:
        """The units of a stage whose maps have the shape of its last."""
        stages, names = self.backbone.stages, self.backbone.names
        ends = [0, *(self.backbone.position(end) + 1 for end in stages.values())]
        at = list(stages).index(stage)
        units = [self.backbone.info[name] for name in names[ends[at] : ends[at + 1]]]
        shape = (units[-1].channels, units[-1].stride)
        return [unit.name for unit in units if (unit.channels, unit.stride) == shape]

    def taps(self, task: str) -> list[str]:
        return [*self.taps_until(task, self.mixed[-1], "stage")[:-1], *self.mixed]

    def tapped(self, group: Group) -> dict[str, list[Tensor]]:
        seen = replace(group, images=self.grey(group.images)) if self.options.grey else group
        return super().tapped(seen)

    def path_unit(self, task: str, name: str) -> nn.Module:
        unit = super().path_unit(task, name)
        if self.options.grey and name == self.backbone.names[0]:
            return nn.Sequential(self.grey, unit)
        return unit

    def tail(self, task: str) -> nn.Module:
        del task
        return Mixture(len(self.mixed))

    def tail_shapes(self, task: str, taps: list[FeatureShape]) -> list[FeatureShape]:
        del task
        return [*taps[: -len(self.mixed)], taps[-1]]

    def extra_losses(self, batch: Batch, outputs: Outputs) -> list[Term]:
        del outputs
        mixtures = [m for m in map(self.tails.__getitem__, batch.tasks) if isinstance(m, Mixture)]
        if not mixtures:
            return []
        penalty = torch.stack([mixture.penalty() for mixture in mixtures]).sum()
        return [Term("layer_lasso", None, penalty, self.options.l1)]

    def explained(self) -> dict[str, Any]:
        mixtures = {task: m.a.tolist() for task, m in self.tails.items() if isinstance(m, Mixture)}
        return {"layer_lasso": {"units": self.mixed, "mixture": mixtures}}

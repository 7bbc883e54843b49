"""How the parameters that tasks share are updated: from all losses at once, or as an ensemble."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from polytask.config.train import Section, name_alone


class Joint(Section):
    """Every batch gives one step from the losses of all its tasks."""

    name: Literal["joint"] = "joint"


class TemporalEnsemble(Section):
    """Every task trains a copy of the shared weights; each epoch the copies become one.

    Source: Kim, Lee, Song, ICCV Workshops 2019, eq. 7 to 10.
    """

    name: Literal["temporal_ensemble"] = "temporal_ensemble"
    layers: Literal["pools", "all"] = Field(
        "pools", description="convolutions before the map shrinks, or all shared weights"
    )
    schedule: Literal["parallel", "sequential"] = Field(
        "parallel",
        description="every copy starts from the ensemble, or from where the task before it ended",
    )
    coefficients: Literal["loss_ratio_over_impact", "loss_ratio", "inverse_impact", "uniform"] = (
        Field("loss_ratio_over_impact", description="how much each task's change counts, α")
    )
    temperature: float = Field(1.0, gt=0, description="of the losses' ratios; low: one task wins")
    task_gradient: float = Field(
        0.1, ge=0, description="size of the step between the first and the last task, β₀"
    )
    per_layer: bool = Field(False, description="coefficients for each layer, not for all together")
    literal: bool = Field(
        False, description="distances as printed, without signs: weights then grow without bound"
    )
    average: int = Field(5, ge=1, le=100, description="epochs whose weights are averaged, T")
    feedback: bool = Field(False, description="go on training from the average")
    norm_batches: int = Field(
        20, ge=0, description="batches that batch norm learns its statistics anew from; 0: none"
    )


Update = Annotated[
    Annotated[Joint | TemporalEnsemble, Field(discriminator="name")], BeforeValidator(name_alone)
]

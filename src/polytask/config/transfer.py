"""What a network takes over from a finished run, as a method's entry says it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self


class TransferOptions(BaseModel):
    """`fine_tune` starts from the run's backbone; with `soft_targets` a header is trained on the
    run's fixed backbone, and the network learns from its answers; with `fsp` the network first
    learns to relate its maps as the run's backbone does, without labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Path | None = Field(None, description="run folder to learn from")
    pretraining: str | None = Field(
        None, description="in place of a run: which of the section pretraining, with the same seed"
    )
    by: Literal["fine_tune", "soft_targets", "fsp"] = Field("fine_tune", description="the route")
    epochs: int | None = Field(
        None, ge=1, le=100_000, description="of the header or of the maps; train.epochs by default"
    )
    temperature: float = Field(4.0, gt=0, description="soft_targets: softening of both answers")
    weight: float = Field(0.5, ge=0, le=1, description="soft_targets: share of the teacher's part")
    hidden: list[int] = Field([512, 256], description="soft_targets: hidden layers of the header")
    latent: bool = Field(
        False,
        description="soft_targets: the run's channels teach in place of a header's answers",
    )
    scale: Literal["relative", "literal"] = Field(
        "relative", description="fsp: a pair's loss as a share of the teacher's, or as the paper's"
    )
    pairs: int = Field(3, ge=1, le=16, description="fsp: pairs of maps, the deepest ones")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.run is not None and self.pretraining is not None:
            raise ValueError("expected a run or a pretraining, not both")
        return self

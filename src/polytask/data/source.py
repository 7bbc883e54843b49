"""What a data set says in a config, and how its images and labels are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from polytask.data.images import ImageSet


class Augment(BaseModel):
    """Random changes of training images, drawn from (seed, epoch, index)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = Field(False, description="mirror left and right, half of the time")
    crop: int = Field(0, ge=0, le=64, description="pad by so many pixels and crop at random")


class Source(BaseModel, ABC):
    """A data set in a config: the keys every source has; a source adds its own and `read`.

    One file each in `data/sources/`, named after the source; it imports neither torch nor the
    library it reads with before `read` is called.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training images, stratified, nested"
    )
    size: int | None = Field(None, ge=1, le=4096, description="square resize, in pixels")
    augment: Augment = Augment()
    val: float = Field(0.15, ge=0, lt=1, description="share of the images where no split is given")
    test: float = Field(0.15, ge=0, lt=1, description="share of the images where no split is given")

    @field_validator("test")
    @classmethod
    def _leaves_training_images(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("val", 0.0) >= 1:
            raise ValueError("expected val and test to be less than 1 together")
        return test

    @abstractmethod
    def read(self, name: str, folder: Path) -> ImageSet:
        """Read the data set `name`; relative paths start at the config's `folder`.

        Raises:
            DataError: a file or row is wrong; all faults at once.
        """

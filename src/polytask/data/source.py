"""What a data set says in a config, and how its images and labels are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from polytask.config.augment import Augment
from polytask.data.images import ImageSet
from polytask.errors import DataError, Fault, unknown

SHOWN = 20  # values of a column that a fault lists

Side = Annotated[int, Field(ge=1, le=4096)]


class Source(BaseModel, ABC):
    """A data set in a config: the keys every source has; a source adds its own and `read`.

    One file each in `data/sources/`, named after the source; it imports neither torch nor the
    library it reads with before `read` is called.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    source: str
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training images, stratified, nested"
    )
    size: Side | tuple[Side, Side] | None = Field(
        None, description="resize, in pixels: a number for a square, or [height, width]"
    )
    only: dict[str, list[str]] = Field(
        {}, description="keep the images with one of these values in a column"
    )
    group: str | None = Field(
        None, description="column whose equal values stay in one split: a person, a sequence"
    )
    augment: Augment = Field(
        Augment(), description="random changes of training images: options, or a preset's name"
    )
    val: float = Field(0.15, ge=0, lt=1, description="share of the images where no split is given")
    test: float = Field(0.15, ge=0, lt=1, description="share of the images where no split is given")

    @field_validator("test")
    @classmethod
    def _leaves_training_images(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("val", 0.0) >= 1:
            raise ValueError("expected val and test to be less than 1 together")
        return test

    def sides(self, image_size: int | None) -> tuple[int, int] | None:
        """The height and width that images are brought to: own ones, else those of all data sets.

        `None` where nothing says so, and images stay as they are.
        """
        side = self.size or image_size
        return (side, side) if isinstance(side, int) else side

    def load(self, name: str, folder: Path) -> ImageSet:
        """What `read` gives, narrowed to `only` and with its groups.

        Raises:
            DataError: as `read` does; or there is no such column or value.
        """
        images = self.read(name, folder)
        faults: list[Fault] = []
        for column, values in self.only.items():
            where = f"data.{name}.only.{column}"
            if column not in images.columns:
                faults.append(unknown(where, "column", column, images.columns))
                continue
            found = {str(cell) for cell in images.columns[column] if cell is not None}
            faults += [
                unknown(where, "value", value, sorted(found)[:SHOWN])
                for value in values
                if value not in found
            ]
        if self.group is not None and self.group not in images.columns:
            faults.append(unknown(f"data.{name}.group", "column", self.group, images.columns))
        if faults:
            raise DataError(faults)
        if self.group is not None:
            images = replace(images, groups=images.columns[self.group])
        return images.narrowed(self.only) if self.only else images

    @abstractmethod
    def read(self, name: str, folder: Path) -> ImageSet:
        """Read the data set `name`; relative paths start at the config's `folder`.

        Raises:
            DataError: a file or row is wrong; all faults at once.
        """

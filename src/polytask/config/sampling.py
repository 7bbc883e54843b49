"""How often each data set is drawn from, as a config says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from polytask.config.train import Section, name_alone


class Balanced(Section):
    """Every data set gives equally many images."""

    name: Literal["balanced"] = "balanced"

    def weights(self, sets: Sequence[tuple[str, int]]) -> list[float]:
        """Draws of each data set (name, images), up to a factor."""
        return [1.0] * len(sets)


class Size(Section):
    """Every data set gives as many images as it has: each image comes once an epoch."""

    name: Literal["size"]

    def weights(self, sets: Sequence[tuple[str, int]]) -> list[float]:
        """Draws of each data set (name, images), up to a factor."""
        return [float(count) for _, count in sets]


class Temperature(Section):
    """Between the two: a data set of n images is drawn in proportion to n^(1 / temperature).

    Source: Arivazhagan et al., "Massively Multilingual Neural Machine Translation in the Wild",
    2019, §4.1.
    """

    name: Literal["temperature"]
    temperature: float = Field(2.0, ge=1, description="1 as size, large as balanced")

    def weights(self, sets: Sequence[tuple[str, int]]) -> list[float]:
        """Draws of each data set (name, images), up to a factor."""
        return [count ** (1 / self.temperature) for _, count in sets]


class Ratios(Section):
    """Draws in fixed proportions."""

    name: Literal["ratios"]
    ratios: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        min_length=1, description="draws of each data set, up to a factor; 1 where not named"
    )

    def weights(self, sets: Sequence[tuple[str, int]]) -> list[float]:
        """Draws of each data set (name, images), up to a factor."""
        return [self.ratios.get(name, 1.0) for name, _ in sets]


Sampling = Annotated[
    Annotated[Balanced | Size | Temperature | Ratios, Field(discriminator="name")],
    BeforeValidator(name_alone),
]

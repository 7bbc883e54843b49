"""What `polytask search` tries: options of one method, and what the network may cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from polytask.budget import Budget
from polytask.config.train import Section
from polytask.errors import UserError

Value = bool | int | float | str
MOST_TRIALS = 100_000


class Span(Section):
    """Numbers from `low` to `high`, every `step` where one is given."""

    low: float = Field(description="the smallest number")
    high: float = Field(description="the largest number")
    step: float | None = Field(None, gt=0, description="distance of neighbours; any number if none")

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("expected low below high")
        return self

    def grid(self) -> list[float] | None:
        """Its numbers, if they are finitely many."""
        if self.step is None:
            return None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        return [round(self.low + i * self.step, 12) for i in range(count)]


Choices = Annotated[list[Value], Field(min_length=1)]


class SearchConfig(Section):
    """A search over options of one method."""

    method: str | None = Field(
        None, description="key of the method to search; the only one beside single by default"
    )
    space: dict[str, Choices | Span] = Field(
        {},
        description="values of the method's options by dotted name (exits.road, ratios.0), a list "
        "or {low, high, step}; the method's own space by default",
    )
    budget: str | None = Field(None, description="the most it may cost, as 35MMAC, 2Mparams, 5ms")
    of: Literal["mean", "largest", "total"] = Field(
        "mean",
        description="what the budget limits: the mean or the largest of the tasks' paths, or one "
        "image through everything",
    )
    sampler: Literal["auto", "grid", "tpe", "random"] = Field(
        "auto", description="grid tries all; auto does so if they are no more than trials, else tpe"
    )
    trials: int = Field(20, ge=1, le=MOST_TRIALS, description="networks to train (all, with grid)")
    seeds: int = Field(1, ge=1, description="of the config's seeds, how many each trial trains")
    seed: int = Field(0, ge=0, lt=2**31, description="of the sampler")

    @field_validator("space")
    @classmethod
    def _distinct(cls, space: dict[str, list[Value] | Span]) -> dict[str, list[Value] | Span]:
        for name, values in space.items():
            if isinstance(values, list) and len(set(map(repr, values))) < len(values):
                raise ValueError(f"expected each value of {name} once")
        return space

    @field_validator("budget", mode="before")
    @classmethod
    def _has_unit(cls, budget: Any) -> Any:
        if budget is not None:
            try:
                Budget.parse(str(budget))
            except UserError as error:
                raise ValueError(error.faults[0].problem.split("; ")[1]) from error
        return budget

    @model_validator(mode="after")
    def _can_measure(self) -> Self:
        if self.of == "total" and self.budget and Budget.parse(self.budget).unit == "ms":
            raise ValueError("expected a budget of MAC or params with of: total")
        return self

"""Cross-stitch: after every stage, each column goes on with a learned mix of all columns' maps.

Source: Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016, eq. 1.

Differs from the paper: any number of columns instead of two; links stand after any units, by
default after every stage (before the next stage's pooling where a network pools); links learn at
the columns' rate unless `lr` says otherwise (the paper: 100 to 1000 times that).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from polytask.errors import UserError
from polytask.sharing.columns.link import Link, weighed_sums
from polytask.sharing.columns.linked import LinkedColumns, LinkedOptions


class CrossStitchOptions(LinkedOptions):
    """How columns are mixed and how the mix starts."""

    mode: Literal["layer", "channel"] = Field(
        "layer", description="one matrix for a whole map, or one for every channel"
    )
    own: float = Field(
        0.9, ge=0, le=1, description="initial weight of a column's own map; others share the rest"
    )
    matrix: list[list[float]] | None = Field(
        None,
        description="initial weights instead of `own`: a row for each new map; those of columns "
        "that a decoder lacks go to the row's own map there",
    )
    shared: bool = Field(
        False, description="one matrix for all places; one more where a decoder has fewer columns"
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.shared and self.mode == "channel":
            raise ValueError("expected shared with mode: layer; places differ in channels")
        return self


class Stitch(Link):
    """Row i of `alpha` weighs the columns' maps in the new map of column i.

    `alpha` is [N, N], or [C, N, N] with a matrix for every channel.
    """

    def __init__(self, alpha: Tensor) -> None:
        super().__init__()
        self.alpha = nn.Parameter(alpha)

    def forward(self, maps: Sequence[Tensor], outputs: Sequence[int]) -> list[Tensor]:
        rows = self.alpha[..., list(outputs), :]
        if rows.dim() == 2:
            return weighed_sums(rows, maps)
        stacked = torch.stack(list(maps), dim=2).flatten(3)  # [B, C, N, H·W]
        mixed = rows @ stacked
        return [mixed[:, :, i].reshape(maps[0].shape) for i in range(len(outputs))]

    def narrowed(self, outputs: Sequence[int]) -> Stitch:
        return Stitch(self.alpha.detach()[..., list(outputs), :].clone())


class CrossStitch(LinkedColumns):
    """Every link is a matrix over the columns, the same for all pixels."""

    Options = CrossStitchOptions
    options: CrossStitchOptions

    def make_link(self, channels: int, columns: Sequence[str]) -> Link:
        alpha = self._initial(columns)
        if self.options.mode == "channel":
            alpha = alpha.repeat(channels, 1, 1)
        return Stitch(alpha)

    def link_name(self, place: str) -> str:
        if not self.options.shared:
            return super().link_name(place)
        has_all = len(self.columns_at(place)) == len(self.columns)
        return "shared" if has_all else "shared_decoder"

    def explained(self) -> dict[str, Any]:
        alpha = {name: link.alpha.tolist() for name, link in self.links.items()}  # type: ignore[operator]
        return {"links": {"columns": list(self.columns), "alpha": alpha}}

    def _initial(self, columns: Sequence[str]) -> Tensor:
        given = self.options.matrix
        if given is None:
            count = len(columns)
            own = self.options.own if count > 1 else 1.0
            return torch.full((count, count), (1 - own) / max(1, count - 1)).fill_diagonal_(own)
        count = len(self.columns)
        if [len(row) for row in given] != [count] * count:
            problem = f"got rows of {[len(row) for row in given]}; expected {count} of {count}"
            raise UserError.at("matrix", problem)
        kept = [i for i, column in enumerate(self.columns) if column in columns]
        whole = torch.tensor(given)[kept]
        left = whole[:, kept]
        return left + torch.diag(whole.sum(1) - left.sum(1))

"""How the effective kernels of some columns come from the raw ones: weighted sums of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

DENSE = 0.05  # share of weights that are not 0 from which a dense product is the faster sum
CACHED = 2**18  # numbers of a column that are mixed at once: what a processor keeps at hand


class Bags(NamedTuple):
    """A sparse matrix: row r holds the `weights` of `entries` from `starts[r]` on."""

    entries: Tensor
    starts: Tensor
    weights: Tensor


class Mixture(NamedTuple):
    """The effective kernels of columns `outs`, of `sizes`, from those of columns `members`.

    `sums` are the weights of the members' kernels. A number stands for twins, each kernel linked to
    those of its index in all members: their effective kernels lie between mean (0) and own (1).
    """

    members: Sequence[int]
    outs: Sequence[int]
    sizes: list[int]
    sums: Tensor | Bags | float

    def of(self, kernels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Each out's effective kernels [m, D] from each member's raw ones [m, D]."""
        if isinstance(self.sums, float):
            made: tuple[Tensor, ...] = Leaning.apply(self.sums, *kernels)
            return made
        stacked = torch.cat(list(kernels))
        if isinstance(self.sums, Tensor):
            return torch.split(self.sums @ stacked, self.sizes)
        entries, starts, weights = self.sums
        mixed = F.embedding_bag(entries, stacked, starts, mode="sum", per_sample_weights=weights)
        return torch.split(mixed, self.sizes)


def weighed(rows: int, columns: int, row: Tensor, entry: Tensor, weight: Tensor) -> Tensor | Bags:
    """The matrix [rows, columns] of a list of (row, entry, weight), no place listed twice."""
    if len(row) > DENSE * rows * columns:
        return weight.new_zeros(rows, columns).index_put((row, entry), weight)
    order = row.argsort(stable=True)
    sizes = torch.bincount(row, minlength=rows)
    starts = sizes.cumsum(0) - sizes
    return Bags(entry[order].int(), starts.int(), weight[order])


class Leaning(Function):
    """Mean + lean · (own - mean) for twins [m, D], in one pass through memory.

    The map is symmetric: gradients go back the way kernels came.
    """

    @staticmethod
    def forward(ctx: Any, lean: float, *kernels: Tensor) -> tuple[Tensor, ...]:
        """The effective kernels of every column."""
        ctx.set_materialize_grads(False)
        ctx.lean = lean
        made = [torch.empty_like(own) for own in kernels]
        rows = max(1, CACHED // kernels[0].shape[1])
        for parts in zip(*(torch.split(each, rows) for each in (*kernels, *made)), strict=True):
            own, new = parts[: len(kernels)], parts[len(kernels) :]
            mean = own[0] + own[1]
            for other in own[2:]:
                mean += other
            mean /= len(own)
            for mine, out in zip(own, new, strict=True):
                torch.lerp(mean, mine, lean, out=out)
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """A column that was not run has no gradient; its twins' reach it all the same."""
        like = next(each for each in gradients if each is not None)
        given = [torch.zeros_like(like) if each is None else each for each in gradients]
        return None, *Leaning.apply(ctx.lean, *given)

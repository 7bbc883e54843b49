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
        """Each out's effective kernels [m, …] from each member's raw ones [m, …]."""
        if isinstance(self.sums, float):
            made: tuple[Tensor, ...] = Leaning.apply(self.sums, *kernels)
            return made
        stacked = torch.cat([rows_of(each) for each in kernels])
        if isinstance(self.sums, Tensor):
            mixed = self.sums @ stacked
        else:
            entries, starts, weights = self.sums
            mixed = F.embedding_bag(
                entries, stacked, starts, mode="sum", per_sample_weights=weights
            )
        return [kernels_of(rows, kernels[0]) for rows in torch.split(mixed, self.sizes)]


def weighed(rows: int, columns: int, row: Tensor, entry: Tensor, weight: Tensor) -> Tensor | Bags:
    """The matrix [rows, columns] of a list of (row, entry, weight), no place listed twice."""
    if len(row) > DENSE * rows * columns:
        return weight.new_zeros(rows, columns).index_put((row, entry), weight)
    order = row.argsort(stable=True)
    sizes = torch.bincount(row, minlength=rows)
    starts = sizes.cumsum(0) - sizes
    return Bags(entry[order].int(), starts.int(), weight[order])


class Leaning(Function):
    """Mean + lean · (own - mean) for twins, in one pass through memory.

    The map is symmetric: gradients go back the way kernels came.
    """

    @staticmethod
    def forward(ctx: Any, lean: float, *kernels: Tensor) -> tuple[Tensor, ...]:
        """The effective kernels of every column."""
        ctx.set_materialize_grads(False)
        ctx.lean = lean
        made = tuple(map(torch.empty_like, kernels))
        _lean(lean, kernels, made)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """A column that was not run has no gradient; its twins' reach it all the same."""
        like = next((each for each in gradients if each is not None), None)
        if like is None:
            return None, *gradients
        given = [torch.zeros_like(like) if each is None else each for each in gradients]
        if torch.is_grad_enabled() or not _are_apart(given):
            return None, *Leaning.apply(ctx.lean, *given)
        _lean(ctx.lean, given, given)  # a convolution's gradient is nobody else's
        return None, *given


def _lean(lean: float, kernels: Sequence[Tensor], made: Sequence[Tensor]) -> None:
    """Write mean + lean · (own - mean) of kernels [m, …] into others, or into themselves."""
    rows = max(1, CACHED // kernels[0][0].numel())
    for parts in zip(*(torch.split(each, rows) for each in (*kernels, *made)), strict=True):
        own, new = parts[: len(kernels)], parts[len(kernels) :]
        mean = torch.lerp(own[0], own[1], 0.5)
        for count, other in enumerate(own[2:], start=3):
            mean.lerp_(other, 1 / count)
        for mine, out in zip(own, new, strict=True):
            torch.lerp(mean, mine, lean, out=out)


def _are_apart(tensors: Sequence[Tensor]) -> bool:
    """Whether no two numbers of tensors share a place in memory."""
    places = {each.untyped_storage().data_ptr() for each in tensors}
    return len(places) == len(tensors) and not any(0 in each.stride() for each in tensors)


def rows_of(kernels: Tensor) -> Tensor:
    """Kernels [m, …] as rows [m, D], in the order in which memory holds them."""
    return (kernels.permute(0, 2, 3, 1) if _is_channels_last(kernels) else kernels).flatten(1)


def kernels_of(rows: Tensor, like: Tensor) -> Tensor:
    """Rows [m, D] as kernels [m, …] in the shape and layout of others."""
    if not _is_channels_last(like):
        return rows.view(len(rows), *like.shape[1:])
    _, channels, height, width = like.shape
    return rows.view(len(rows), height, width, channels).permute(0, 3, 1, 2)


def _is_channels_last(kernels: Tensor) -> bool:
    return kernels.dim() == 4 and kernels.is_contiguous(memory_format=torch.channels_last)

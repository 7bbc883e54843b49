"""What stands between columns: a module that mixes their maps, and the place where it acts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

COMMON = "(common)"  # the column of the units that all columns have in common


@dataclass(frozen=True)
class Join:
    """A link after a unit: it maps the maps of `reads` to new maps of `writes` (m ≤ k)."""

    after: str
    link: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Link(nn.Module, ABC):
    """Takes a map [B, C, H, W] per column that it reads, and gives new ones of the same shape."""

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], outputs: Sequence[int]) -> list[Tensor]:
        """The new maps of the columns numbered `outputs` among those that the link writes."""

    @abstractmethod
    def narrowed(self, outputs: Sequence[int]) -> Link:
        """A link of its own memory that gives these outputs alone, as a path holds it."""

    def serving(self, outputs: Sequence[int]) -> set[nn.Parameter]:
        """The parameters that these outputs depend on."""
        del outputs
        return set(self.parameters())


def weighed_sums(rows: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
    """A new map Σ_j rows[i, j] · maps[j] for each row, in the maps' own memory layout."""
    is_last = maps[0].is_contiguous(memory_format=torch.channels_last)
    plain = [m.permute(0, 2, 3, 1) for m in maps] if is_last else list(maps)
    mixed = (rows @ torch.stack(plain).flatten(1)).view(len(rows), *plain[0].shape)
    return list(mixed.permute(0, 1, 4, 2, 3) if is_last else mixed)

"""What stands between columns: a module that mixes their maps, and the place where it acts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


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

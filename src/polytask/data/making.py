"""Images before anything is made of them: what a pretext task makes its inputs and targets from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from polytask.batch import Input, Value
from polytask.randomness import UInts, counter_hash, stable_hash

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def own_stream(data: str, task: str) -> str:
    """The stream of a task that makes its own inputs from the images of a data set."""
    return f"{data}+{task}"


@dataclass(frozen=True)
class Raw:
    """Un-normalised images `pixels` [B, 3, H, W] and their numbers `index` [B] in the data set.

    Random numbers depend on the key (seed, epoch), the image's number and which pass over the data
    set it is, never on the other images of the batch. `others(numbers)` gives other images of the
    data set, out of the numbers in `pool`.
    """

    pixels: Pixels
    index: Ints
    passes: Ints
    key: int
    pool: Ints
    others: Callable[[Ints], Pixels]
    is_training: bool = True

    def __len__(self) -> int:
        return len(self.pixels)

    def bits(self, what: str, count: int = 1) -> UInts:
        """Random 64-bit numbers [B, count] for one purpose, which its name tells."""
        key = stable_hash(self.key, what)
        return counter_hash(key, self.index[:, None], self.passes[:, None], np.arange(count))

    def below(self, limit: int | Ints, what: str, count: int = 1) -> Ints:
        """Random integers [B, count] from 0 to below `limit` (a number, or one each [B, count])."""
        # The upper half of 64 random bits times n, without its lower half, is uniform below n.
        upper = self.bits(what, count) >> np.uint64(32)
        drawn: Ints = (upper * np.asarray(limit).astype(np.uint64) >> np.uint64(32)).astype(
            np.int64
        )
        return drawn

    def share(self, what: str, count: int = 1) -> Floats:
        """Random numbers [B, count] from 0 to below 1."""
        drawn: Floats = (self.bits(what, count) >> np.uint64(11)).astype(np.float64) / 2.0**53
        return drawn

    def strangers(self, what: str) -> Pixels:
        """Another image of the data set for each, [B, 3, H, W]; itself where there is none."""
        place = np.searchsorted(self.pool, self.index)
        is_in = place < len(self.pool)
        is_in[is_in] = self.pool[place[is_in]] == self.index[is_in]
        # An image that is in the pool skips itself; one that is not may draw from all of it.
        drawn = self.below(np.maximum(len(self.pool) - is_in, 1)[:, None], what)[:, 0]
        drawn += is_in & (drawn >= place) & (len(self.pool) > 1)
        return self.others(self.pool[drawn])


@dataclass(frozen=True)
class Made:
    """Inputs and targets: `images` [B·V, 3, h, w], V views an image, as uint8 pixels that are still
    to be normalised or as float numbers that the network gets as they are; `target` is what the
    task's loss takes, its first axis [B]."""

    images: Tensor
    target: Value


class Maker(Protocol):
    """What makes inputs and targets: a pretext task."""

    @property
    def views(self) -> int:
        """The views of an image, V."""

    def input(self, seen: Input) -> Input:
        """The size of a view for images of that size."""

    def make(self, raw: Raw) -> Made:
        """Inputs and targets of some images."""

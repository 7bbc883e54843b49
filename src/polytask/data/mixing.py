"""Which images each step of an epoch draws from each data set.

Every data set gives the same number of draws an epoch, that of the largest, so that batches are
balanced: a smaller set starts over, in passes of a fresh random order each.

Source: Lee et al., "Multi-Task Learning with Task-Specific Feature Filtering in Low-Data
Condition", Electronics 2021, 10, 2691, §3.1.

Differs from the paper: batches are balanced exactly, not in expectation, and every image is drawn
floor or ceil(longest / n) times an epoch instead of with replacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polytask.data.chunked import WINDOW
from polytask.randomness import counter_hash, stable_hash

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Feed:
    """Training images that take turns: those of a data set with a label of any of the `tasks`.

    `pool`: their numbers in the data set, ascending. `chunk_of`: the chunk of each image of the
    data set, where a file gives images chunk by chunk.
    """

    data: str
    tasks: tuple[str, ...]
    pool: Ints
    chunk_of: Ints | None = None


@dataclass(frozen=True)
class Draws:
    """Images drawn from one feed: numbers in the data set, and the pass each belongs to."""

    index: Ints
    passes: Ints

    def __getitem__(self, part: slice) -> Draws:
        return Draws(self.index[part], self.passes[part])


def pass_order(
    seed: int, data: str, epoch: int, number: int, pool: Ints, chunk_of: Ints | None = None
) -> Ints:
    """The order of the pool in one pass of an epoch.

    An image's place depends on the seed, the data set's name, the pass and its own number: leaving
    images out does not change the order of the others. With `chunk_of`, chunks come in random
    order, `WINDOW` of them at a time, and the images of a window in random order.
    """
    key = stable_hash(seed, data, "pass", epoch, number)
    place = counter_hash(key, pool)
    if chunk_of is None:
        return pool[np.argsort(place, kind="stable")]
    chunks = np.arange(chunk_of.max(initial=0) + 1)
    turn = np.empty_like(chunks)
    turn[np.argsort(counter_hash(stable_hash(key, "chunks"), chunks), kind="stable")] = chunks
    return pool[np.lexsort((place, turn[chunk_of[pool]] // WINDOW))]


@dataclass(frozen=True)
class Mix:
    """An epoch over several feeds: each gives `longest` draws, at most `share` a step.

    `length`: those draws, the images of the largest feed unless given.
    """

    feeds: Sequence[Feed]
    share: int
    length: int | None = None

    @property
    def longest(self) -> int:
        """The draws of each feed."""
        if self.length is not None:
            return self.length
        return max((len(feed.pool) for feed in self.feeds), default=0)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.longest // self.share)

    def turn(self, step: int) -> slice:
        """The draws of a step, the same for every feed; steps differ by one draw at most."""
        return slice(self.longest * step // self.steps, self.longest * (step + 1) // self.steps)

    def draws(self, feed: Feed, seed: int, epoch: int) -> Draws:
        """The draws of a feed in an epoch: pass after pass, the last cut short."""
        count = -(-self.longest // len(feed.pool))
        orders = [
            pass_order(seed, feed.data, epoch, j, feed.pool, feed.chunk_of) for j in range(count)
        ]
        passes = np.repeat(np.arange(count), len(feed.pool))
        return Draws(np.concatenate(orders), passes)[: self.longest]

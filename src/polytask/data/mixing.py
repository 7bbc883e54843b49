"""Which images each step of an epoch draws from each data set.

Unless sampling says otherwise, every data set gives the same number of draws an epoch, that of the
largest, so that batches are balanced: a smaller set starts over, in passes of a fresh random order.

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

    def __len__(self) -> int:
        return len(self.index)

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
    """An epoch over several feeds, of which each gives its `lengths` draws in `steps` steps."""

    feeds: Sequence[Feed]
    lengths: Sequence[int]
    steps: int

    def turn(self, feed: int, step: int) -> slice:
        """The draws of a feed, by its place, in a step; steps differ by one draw at most."""
        length = self.lengths[feed]
        return slice(length * step // self.steps, length * (step + 1) // self.steps)

    def draws(self, feed: int, seed: int, epoch: int) -> Draws:
        """The draws of a feed in an epoch: pass after pass, the last cut short."""
        length, this = self.lengths[feed], self.feeds[feed]
        count = -(-length // len(this.pool))
        orders = [
            pass_order(seed, this.data, epoch, j, this.pool, this.chunk_of) for j in range(count)
        ]
        passes = np.repeat(np.arange(count), len(this.pool))
        return Draws(np.concatenate(orders), passes)[:length]


def mixed(feeds: Sequence[Feed], weights: Sequence[float], batch: int, together: bool) -> Mix:
    """The epoch that passes once over the largest feed, the others drawn in proportion to weights.

    Args:
        feeds: none of them empty.
        weights: draws of each feed, up to a factor; all alike for balanced batches.
        batch: images of a step, of all feeds if `together`, else of the feed drawn most often.
    """
    if not feeds:
        return Mix([], [], 0)
    largest = max(range(len(feeds)), key=lambda k: len(feeds[k].pool))
    longest = len(feeds[largest].pool)
    lengths = [max(1, round(longest * weight / weights[largest])) for weight in weights]
    whole = sum(weights) if together else max(weights)
    shares = [max(1, int(batch * weight / whole + 1e-9)) for weight in weights]
    steps = max(-(-length // share) for length, share in zip(lengths, shares, strict=True))
    return Mix(feeds, lengths, steps)

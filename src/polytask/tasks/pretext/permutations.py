"""Sets of permutations that are far from one another, so that a puzzle has one answer."""

from __future__ import annotations

from functools import cache
from itertools import permutations

import numpy as np

from polytask.randomness import counter_hash, stable_hash


@cache
def spread_permutations(tiles: int, count: int) -> np.ndarray:
    """`count` permutations [count, tiles], each as far as can be from the nearest before it.

    Greedy from the identity on: the next has the largest least Hamming distance to those chosen,
    the first in lexicographic order among equals.

    Source: Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
    Puzzles", ECCV 2016, §3 (a large Hamming distance between permutations). Choosing by the least
    distance instead of the mean guarantees one.
    """
    every = np.array(list(permutations(range(tiles))), np.int8)
    nearest = np.full(len(every), tiles + 1, np.int8)
    chosen = [0]
    while len(chosen) < count:
        apart = (every != every[chosen[-1]]).sum(1, dtype=np.int8)
        np.minimum(nearest, apart, out=nearest)
        chosen.append(int(nearest.argmax()))
    return every[chosen].astype(np.int64)


@cache
def distant_permutations(tiles: int, count: int, least: int) -> np.ndarray:
    """`count` permutations [count, tiles] of which any two differ in `least` places or more.

    Scans all permutations in a fixed random order and keeps each that is far from those kept; there
    may be fewer than `count`. With `least` 3 a solution stays unique with two tiles hidden.

    Source: Noroozi et al., "Boosting Self-Supervised Learning via Knowledge Transfer", CVPR 2018,
    §4 (701 permutations of nine tiles at a distance of 3 or more).
    """
    every = np.array(list(permutations(range(tiles))), np.int8)
    order = np.argsort(counter_hash(stable_hash("permutations", tiles), np.arange(len(every))))
    kept = every[:1]
    for row in every[order]:
        if len(kept) == count:
            break
        if ((kept != row).sum(1) >= least).all():
            kept = np.concatenate([kept, row[None]])
    return kept.astype(np.int64)

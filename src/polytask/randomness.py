"""Random numbers as functions of names and counters, equal on every machine and in every process.

Nothing here has a state: what is drawn depends on its key and counter alone, so that runs repeat,
resume anywhere and do not change with the number of threads or workers (DESIGN, Randomness).
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

UInts = npt.NDArray[np.uint64]


def stable_hash(*parts: object) -> int:
    """A 63-bit number from names and numbers, the same on every machine and run."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def counter_hash(key: int, *counters: npt.ArrayLike) -> UInts:
    """One 64-bit number for each element of the counters, which broadcast against one another.

    Every counter goes through one round of SplitMix64, keyed by what came before it.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
    fig. 17.
    """
    state = np.asarray(key, dtype=np.uint64)
    for counter in counters:
        step = np.asarray(counter).astype(np.uint64) + np.uint64(1)
        with np.errstate(over="ignore"):  # wraps modulo 2^64
            z = state + step * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = z ^ (z >> np.uint64(31))
    return np.asarray(state)

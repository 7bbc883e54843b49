"""Read every image of a data set and keep what `polytask check` tells of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from polytask.data.decode import decode
from polytask.data.duplicates import THUMBNAIL, Prints, print_of
from polytask.data.images import ImageSet
from polytask.data.store import THREADS
from polytask.errors import DataError, Fault


@dataclass(frozen=True)
class Scan:
    """What was seen of N images.

    `faults`: why an image can't be read, by position. `sizes` [N, 2] and `channels` [N]: width and
    height, 0 where it can't be read. `changes`: positions of the files that were not 8-bit grey or
    RGB, by what was done to them. `prints`: what finds duplicates.
    """

    faults: dict[int, Fault]
    sizes: np.ndarray
    channels: np.ndarray
    changes: dict[str, list[int]]
    prints: Prints


@dataclass(frozen=True)
class _Seen:
    size: tuple[int, int]
    channels: int
    changes: tuple[str, ...]
    digest: bytes
    thumbnail: np.ndarray


def scan(images: ImageSet) -> Scan:
    """Decode every image, in threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        seen = list(threads.map(partial(_see, images), range(len(images))))
    faults, changes = {}, dict[str, list[int]]()
    sizes, channels = np.zeros((len(seen), 2), int), np.zeros(len(seen), int)
    digests = [b""] * len(seen)
    thumbnails = np.zeros((len(seen), *THUMBNAIL), np.uint8)
    for i, one in enumerate(seen):
        if isinstance(one, Fault):
            faults[i] = one
            continue
        sizes[i], channels[i] = one.size, one.channels
        digests[i], thumbnails[i] = one.digest, one.thumbnail
        for change in one.changes:
            changes.setdefault(change, []).append(i)
    return Scan(faults, sizes, channels, changes, Prints(digests, thumbnails))


def _see(images: ImageSet, i: int) -> _Seen | Fault:
    try:
        decoded = decode(images.images[i], images.place(i))
    except DataError as error:
        (fault,) = error.faults
        return fault
    height, width, channels = decoded.pixels.shape
    digest, thumbnail = print_of(decoded.pixels)
    return _Seen((width, height), channels, decoded.changes, digest, thumbnail)

"""Decoded images as uint8: in memory as long as they fit, else read again whenever drawn.

Every image is decoded once when a store is filled, in threads: that finds the files that cannot be
read and gives the images' digest. What a store returns never depends on the threads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from polytask.data.chunked import ChunkedImages
from polytask.data.decode import read_image
from polytask.data.images import ImageSet
from polytask.data.prepare import Pixels, Size, fit
from polytask.errors import DataError, Fault, capped

THREADS = min(8, os.cpu_count() or 1)
CHUNK = (
    64  # images a thread takes at a time: small arrays would cost more to hand over than to read
)

Ints = npt.NDArray[np.int64]


class Store(Protocol):
    """Images of a data set by their numbers in it, all of one size."""

    @property
    def bytes(self) -> int:
        """Memory held."""

    @property
    def chunk_of(self) -> Ints | None:
        """The chunk of the file that each image lies in, where images are read in chunks."""

    def take(self, index: Ints) -> Pixels:
        """The images numbered `index` [B], as [B, C, H, W]; C is 1 where all are grey, else 3."""


@dataclass(frozen=True)
class MemoryStore:
    """Keeps `pixels` [R, C, H, W]; image i of the data set is row `row_of[i]`."""

    pixels: Pixels
    row_of: Ints

    @property
    def bytes(self) -> int:
        return self.pixels.nbytes

    @property
    def chunk_of(self) -> None:
        return None

    def take(self, index: Ints) -> Pixels:
        return self.pixels[self.row_of[index]]


@dataclass(frozen=True)
class LazyStore:
    """Decodes and resizes whenever images are drawn."""

    read: Callable[[int], Pixels]
    channels: int
    size: Size
    threads: ThreadPoolExecutor

    @property
    def bytes(self) -> int:
        return 0

    @property
    def chunk_of(self) -> None:
        return None

    def take(self, index: Ints) -> Pixels:
        taken = np.empty((len(index), self.channels, *self.size), np.uint8)
        for row, pixels in enumerate(self.threads.map(self.read, index.tolist())):
            taken[row] = pixels
        return taken


@dataclass(frozen=True)
class ChunkStore:
    """Reads chunks of neighbours from a file, and resizes whenever images are drawn."""

    images: ChunkedImages
    sizes: Sequence[Size]

    @property
    def bytes(self) -> int:
        return 0

    @property
    def chunk_of(self) -> Ints:
        return self.images.chunk_of

    def take(self, index: Ints) -> Pixels:
        taken = np.empty((len(index), self.images.shape[3], *self.sizes[-1]), np.uint8)
        fits = all(size == self.images.shape[1:3] for size in self.sizes)
        for row, pixels in enumerate(self.images.pixels(index)):
            taken[row] = pixels if fits else fit(pixels.transpose(1, 2, 0), self.sizes)
        return taken


@dataclass(frozen=True)
class Filled:
    """A store and what filling it found: unreadable images by number, the (height, width) of the
    files' own pictures [N, 2], 0 where an image was not read, and a digest of their pixels."""

    store: Store
    faults: dict[int, Fault]
    sizes: Ints
    digest: str


@dataclass(frozen=True)
class Seen:
    """One image as it was read: resized pixels [C, H, W], and its own size and digest."""

    pixels: Pixels
    size: Size
    digest: bytes


def fill(
    images: ImageSet, index: Ints, sizes: Sequence[Size], memory: int, workers: int | None = None
) -> Filled:
    """Read the images numbered `index`, resized to each of `sizes` (height, width) in turn.

    They are kept if they take at most `memory` bytes in colour; `workers` threads read them.
    """
    height, width = sizes[-1]
    keep = 3 * height * width * len(index) <= memory
    chunked = images.images if isinstance(images.images, ChunkedImages) else None
    if chunked is not None and images.digests is not None and images.sizes is not None and not keep:
        known = hashlib.blake2b(images.digests[index].tobytes(), digest_size=16)
        return Filled(ChunkStore(chunked, sizes), {}, images.sizes, known.hexdigest())
    kept = np.empty((len(index) if keep else 0, 1, height, width), np.uint8)
    channels = 1
    faults: dict[int, Fault] = {}
    own_sizes = np.zeros((len(images), 2), np.int64)
    digest = hashlib.blake2b(digest_size=16)
    threads = ThreadPoolExecutor(workers or THREADS, thread_name_prefix="decode")
    seen_images = see_images(images, index, sizes, threads)
    for row, (i, seen) in enumerate(zip(index.tolist(), seen_images, strict=True)):
        if isinstance(seen, Fault):
            faults[i] = seen
            continue
        if len(seen.pixels) > channels:
            channels = len(seen.pixels)
            kept = np.repeat(kept, channels, axis=1)
        if keep:
            kept[row] = seen.pixels
        own_sizes[i] = seen.size
        digest.update(seen.digest)
    if images.sizes is not None:
        own_sizes = images.sizes
    if keep or chunked is not None:
        threads.shutdown()
    if keep:
        row_of = np.full(len(images), -1)
        row_of[index] = np.arange(len(index))
        return Filled(MemoryStore(kept, row_of), faults, own_sizes, digest.hexdigest())

    if chunked is not None:
        return Filled(ChunkStore(chunked, sizes), faults, own_sizes, digest.hexdigest())

    def read(i: int) -> Pixels:
        return fit(_read(images, i), sizes)

    store = LazyStore(read, channels, (height, width), threads)
    return Filled(store, faults, own_sizes, digest.hexdigest())


def first_size(images: ImageSet, index: Ints) -> Size:
    """The (height, width) of the first image that can be read.

    Raises:
        DataError: none can be read.
    """
    faults = []
    for i in index.tolist():
        try:
            height, width, _ = _read(images, i).shape
        except DataError as error:
            faults += error.faults
        else:
            return height, width
    raise DataError(capped(faults))


def pixels_digest(pixels: Pixels) -> bytes:
    """A digest of an image's pixels [H, W, C] as they are decoded, 16 bytes."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _read(images: ImageSet, i: int) -> Pixels:
    return read_image(images.images[i], images.place(i))


def see_images(
    images: ImageSet, index: Ints, sizes: Sequence[Size], threads: ThreadPoolExecutor
) -> Generator[Seen | Fault, None, None]:
    """Every image in order, read in threads, or what is wrong with it."""

    def see(i: int) -> Seen | Fault:
        try:
            own = _read(images, i)
        except DataError as error:
            return error.faults[0]
        known = images.digests
        digest = pixels_digest(own) if known is None else known[i].tobytes()
        return Seen(fit(own, sizes), own.shape[:2], digest)

    def see_chunk(start: int) -> list[Seen | Fault]:
        return [see(i) for i in index[start : start + CHUNK].tolist()]

    for chunk in threads.map(see_chunk, range(0, len(index), CHUNK)):
        yield from chunk

"""Images that are in two splits at once: the same pixels, or nearly the same picture."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image

THUMBNAIL = (16, 18)  # rows, columns: halved, it gives the 8 × 9 cells of a difference hash
# Recompressing at quality 60 and shrinking to 70 % moves 99 % of photographs of 100 pixels and more
# by less than this, while of 1,449 rooms and 12,000 tiny photographs no two come so close.
MOST_BITS = 6
MOST_DIFFERENCE = 0.1  # mean difference of thumbnails, in standard deviations of their pixels
FLAT = 4.0  # grey levels: the least standard deviation that counts, for pictures of one colour
MOST_PAIRS = 2_000_000_000
AT_ONCE = 4_000_000  # pairs


@dataclass(frozen=True)
class Prints:
    """Digests of the pixels, empty where an image can't be read, and thumbnails [N, 16, 18]."""

    digests: Sequence[bytes]
    thumbnails: np.ndarray


def print_of(pixels: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Digest and thumbnail of a decoded image [H, W, C]."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    rows, columns = THUMBNAIL
    small = picture.resize((columns, rows), Image.Resampling.BOX).convert("L")
    return digest.digest(), np.asarray(small)


def same_pixels(prints: Prints, owner: np.ndarray) -> list[list[int]]:
    """Groups of images with the same pixels that lie in two splits or more.

    `owner` [N] is the number of an image's split, −1 for none.
    """
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for i, digest in enumerate(prints.digests):
        if digest and owner[i] >= 0:
            groups[digest].append(i)
    return [group for group in groups.values() if len(set(owner[group])) > 1]


def nearly_same(prints: Prints, owner: np.ndarray) -> list[tuple[int, int]] | None:
    """Pairs in different splits whose pictures, not their pixels, are the same.

    Candidates are those whose difference hashes differ in few bits; their thumbnails decide.
    `None` where there are too many pairs to look at.

    Source: Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013 (the difference hash).
    """
    readable = np.array([bool(digest) for digest in prints.digests], dtype=bool)
    splits = [np.flatnonzero(readable & (owner == s)) for s in np.unique(owner[owner >= 0])]
    if sum(len(a) * len(b) for a, b in combinations(splits, 2)) > MOST_PAIRS:
        return None
    hashes = _difference_hash(prints.thumbnails)
    flat = prints.thumbnails.reshape(len(readable), -1).astype(np.float32)
    return [
        (int(i), int(j))
        for a, b in combinations(splits, 2)
        for candidates in _close(hashes, a, b)
        for i, j in candidates[_alike(flat, candidates)]
        if prints.digests[i] != prints.digests[j]
    ]


def _difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """64 bits [N]: whether each of 8 × 9 cells is darker than the one to its right."""
    rows, columns = THUMBNAIL
    cells = thumbnails.reshape(-1, rows // 2, 2, columns // 2, 2).sum((2, 4), dtype=int)
    bits = cells[:, :, 1:] > cells[:, :, :-1]
    return np.packbits(bits.reshape(len(bits), -1), axis=1).view(np.uint64)[:, 0]


def _close(hashes: np.ndarray, a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs [K, 2] of an image of `a` and one of `b` whose hashes are close, a part at a time."""
    step = max(1, AT_ONCE // max(1, len(b)))
    for start in range(0, len(a), step):
        part = a[start : start + step]
        bits = np.bitwise_count(hashes[part][:, None] ^ hashes[b])
        rows, columns = np.nonzero(bits <= MOST_BITS)
        yield np.stack([part[rows], b[columns]], axis=1)


def _alike(flat: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    difference = np.empty(len(pairs))
    step = AT_ONCE // flat.shape[1]
    for start in range(0, len(pairs), step):
        one, two = (flat[side] for side in pairs[start : start + step].T)
        spread = np.maximum(FLAT, np.maximum(one.std(1), two.std(1)))
        difference[start : start + step] = np.abs(one - two).mean(1) / spread
    return difference < MOST_DIFFERENCE

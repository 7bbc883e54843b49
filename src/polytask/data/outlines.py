"""Outlines and run lengths, as COCO writes them, to masks.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and the format's page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Region(NamedTuple):
    """Part of a mask: the `value` of its pixels, its `area`, and polygons or run lengths."""

    value: int
    area: float
    shape: Any


def draw(regions: Sequence[Region], width: int, height: int) -> np.ndarray:
    """A mask [height, width] of 0 with the regions on it, the smaller above the larger."""
    mask = np.zeros((height, width), np.uint8)
    for region in sorted(regions, key=lambda region: -region.area):
        mask[_inside(region.shape, width, height)] = region.value
    return mask


def problem(shape: Any, width: int, height: int) -> str:
    """What keeps a `segmentation` from being drawn; nothing where it can be."""
    if isinstance(shape, list):
        bad = [ring for ring in shape if not _is_ring(ring)]
        return f"the outline {str(bad[0])[:60]} is no list of three or more x, y" if bad else ""
    if not isinstance(shape, dict) or not {"counts", "size"} <= shape.keys():
        return "the segmentation is neither outlines nor run lengths"
    if list(shape["size"]) != [height, width]:
        return f"the run lengths are of size {shape['size']}, the image is {[height, width]}"
    try:
        runs = _runs(shape["counts"])
    except (TypeError, ValueError, IndexError):
        return "the run lengths can't be read"
    if min(runs, default=0) < 0 or sum(runs) != width * height:
        return f"the run lengths cover {sum(runs)} of {width * height} pixels"
    return ""


def _is_ring(ring: Any) -> bool:
    return (
        isinstance(ring, list)
        and len(ring) >= 6
        and len(ring) % 2 == 0
        and all(isinstance(number, int | float) and abs(number) < 1e6 for number in ring)
    )


def _inside(shape: Any, width: int, height: int) -> np.ndarray:
    if isinstance(shape, dict):
        return _unpacked(_runs(shape["counts"]), width, height)
    inside = np.zeros((height, width), bool)
    for ring in shape:
        inside |= _filled(np.array(ring, float).reshape(-1, 2), width, height)
    return inside


def _filled(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """The pixels whose middle is inside a polygon [N, 2], by the even-odd rule."""
    rows = np.arange(height) + 0.5
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    edge, row = np.nonzero((y[:, None] <= rows) != (next_y[:, None] <= rows))
    slope = (next_x[edge] - x[edge]) / (next_y[edge] - y[edge])
    at = x[edge] + (rows[row] - y[edge]) * slope  # where edges cross the rows' middles
    crossed = np.zeros((height, width + 1), np.int32)
    np.add.at(crossed, (row, np.clip(np.ceil(at - 0.5), 0, width).astype(int)), 1)
    return np.asarray(crossed.cumsum(axis=1)[:, :-1] % 2 == 1)


def _unpacked(runs: Sequence[int], width: int, height: int) -> np.ndarray:
    """Runs of 0 and of 1 in turn, column after column, to booleans [height, width]."""
    is_inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(is_inside, runs).reshape(width, height).T


def _runs(counts: Any) -> list[int]:
    """Run lengths as numbers, from a list of them or COCO's text.

    In the text a character holds 5 bits of a number, lowest first, and whether more follow; from
    the fourth on a number is the difference to the run before the last.
    """
    if isinstance(counts, list):
        return [int(run) for run in counts]
    runs: list[int] = []
    codes = iter([ord(character) - 48 for character in counts])
    for code in codes:
        value, shift = code & 31, 5
        while code & 32:
            code = next(codes, 0)
            value |= (code & 31) << shift
            shift += 5
        if code & 16:  # the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs

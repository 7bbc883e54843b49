"""Tiles of a jigsaw puzzle: cut with gaps, changed in colour one by one, laid out in an order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from polytask.data.making import Ints, Pixels, Raw
from polytask.tasks.pretext.patches import LUMA

DEVIATION = 1.0  # of a pixel, at least what a tile is divided by: a tile of one colour stays finite


@dataclass(frozen=True)
class TileGrid:
    """`count` × `count` cells of an image, in each a tile of `side` pixels with `room` to move."""

    count: int
    side: int
    room: int

    @classmethod
    def of(cls, count: int, height: int, width: int) -> TileGrid:
        """The tile takes 85 % of its cell, as 64 pixels of 75 do."""
        cell = min(height, width) // count
        side = max(1, round(0.85 * cell))
        return cls(count, side, cell - side)

    @property
    def tiles(self) -> int:
        """The tiles of an image."""
        return self.count**2

    def cut(self, pixels: Pixels, raw: Raw) -> Pixels:
        """Tiles [B, tiles, C, side, side] in reading order.

        In training a tile lies anywhere in its cell, so that edges tell nothing; else amid it.
        """
        cell = self.side + self.room
        rows, columns = np.divmod(np.arange(self.tiles), self.count)
        corner = np.stack([rows, columns], axis=1)[None] * cell
        if raw.is_training:
            moved = raw.below(self.room + 1, "tile", 2 * self.tiles)
            corner = corner + moved.reshape(-1, self.tiles, 2)
        else:
            corner = np.repeat(corner + self.room // 2, len(raw), axis=0)
        windows = sliding_window_view(pixels, (self.side, self.side), axis=(2, 3))
        return windows[np.arange(len(raw))[:, None], :, corner[..., 0], corner[..., 1]]

    def mosaic(self, tiles: np.ndarray) -> np.ndarray:
        """One image [B, C, count·side, count·side] of the tiles in their order."""
        b, _, c, s, _ = tiles.shape
        grid = tiles.reshape(b, self.count, self.count, c, s, s)
        return grid.transpose(0, 3, 1, 4, 2, 5).reshape(b, c, self.count * s, self.count * s)


def laid_out(tiles: Pixels) -> Pixels:
    """Tiles [T, S, S, 3] as one square picture, with a white line between them."""
    count = math.isqrt(len(tiles))
    lined = np.pad(tiles, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(row), axis=1) for row in np.split(lined, count)]
    return np.concatenate(rows)[:-1, :-1]


def greyed(tiles: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Tiles [B, T, 3, S, S], those of the chosen images [B] without colour."""
    luma: np.ndarray = np.einsum("c,btcij->btij", LUMA, tiles)[:, :, None]
    return np.where(chosen[:, None, None, None, None], luma, tiles)


def jittered(tiles: np.ndarray, raw: Raw) -> np.ndarray:
    """Each colour channel of each tile moved by up to one pixel in both directions."""
    b, t, c, s, _ = tiles.shape
    padded = np.pad(tiles, [(0, 0)] * 3 + [(1, 1)] * 2, "edge")
    moved = raw.below(3, "channel", 2 * t * c).reshape(b, t, c, 2)
    windows = sliding_window_view(padded, (s, s), axis=(3, 4))
    at = np.ix_(range(b), range(t), range(c))
    changed: np.ndarray = windows[at[0], at[1], at[2], moved[..., 0], moved[..., 1]]
    return changed


def standardised(tiles: np.ndarray) -> np.ndarray:
    """Each tile [..., C, S, S] with mean 0 and deviation 1: brightness tells nothing of its place.

    Source: Noroozi and Favaro, ECCV 2016, §4.2 (the mean and deviation of each patch).
    """
    axes = (-3, -2, -1)
    deviation = np.maximum(tiles.std(axes, keepdims=True), DEVIATION)
    shown: np.ndarray = (tiles - tiles.mean(axes, keepdims=True)) / deviation
    return shown.astype(np.float32)


def permuted(tiles: np.ndarray, order: Ints) -> np.ndarray:
    """Tiles [B, T, …] laid out so that place j holds tile `order[b, j]`."""
    laid: np.ndarray = tiles[np.arange(len(tiles))[:, None], order]
    return laid

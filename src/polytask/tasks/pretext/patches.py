"""Patches of an image: where they lie, and what keeps a network from telling it by accident.

Source: Mundhenk, Ho, Chen, "Improvements to Context Based Self-Supervised Learning", CVPR 2018, for
chroma blurring, yoked jitter and apertures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from polytask.data.making import Floats, Ints, Pixels, Raw

LUMA = np.array([0.299, 0.587, 0.114])
GREY = 128


@dataclass(frozen=True)
class PatchGrid:
    """Patches of `side` pixels whose corners are `step`s apart, with `room` pixels of jitter."""

    side: int
    step: int
    room: int

    @classmethod
    def of(cls, height: int, width: int) -> PatchGrid:
        """Three by three overlapping patches: 14 pixels every 8 in an image of 32."""
        shortest = min(height, width)
        step = shortest // 4
        room = shortest // 16
        return cls(shortest - 2 * step - room, step, room)

    def cut(self, pixels: Pixels, cells: Ints, shift: Ints) -> Pixels:
        """Patches [B, V, C, side, side] at `cells` [B, V, 2], rows and columns of the grid in
        steps, which may be halves, all patches of an image moved by its `shift` [B, 2]."""
        corners = (cells * self.step).astype(np.int64) + shift[:, None]
        windows = sliding_window_view(pixels, (self.side, self.side), axis=(2, 3))
        image = np.arange(len(pixels))[:, None]
        return windows[image, :, corners[..., 0], corners[..., 1]]


def yoked(grid: PatchGrid, raw: Raw) -> Ints:
    """One shift [B, 2] for all patches of an image, drawn in training; the middle otherwise."""
    if not raw.is_training:
        return np.full((len(raw), 2), grid.room // 2)
    return raw.below(grid.room + 1, "shift", 2)


def without_chroma(pixels: Pixels, width: int) -> Pixels:
    """Images [B, 3, H, W] whose colour, not whose brightness, is blurred by a box `width` wide.

    Lenses bend colours differently towards the rim, which would tell where a patch was.
    """
    values = pixels.astype(np.float32)
    luma = np.tensordot(LUMA.astype(np.float32), values, axes=(0, 1))[:, None]
    blurred = _box(values - luma, width)
    rounded: Pixels = (luma + blurred).round().clip(0, 255).astype(np.uint8)
    return rounded


def _box(maps: np.ndarray, width: int) -> np.ndarray:
    """The mean over a square around each pixel, the rim repeated."""
    for axis in (2, 3):
        pad = [(0, 0)] * 4
        pad[axis] = (width // 2, width // 2)
        maps = sliding_window_view(np.pad(maps, pad, "edge"), width, axis=axis).mean(-1)
    return maps


def through_apertures(patches: Pixels, share: Floats) -> Pixels:
    """Patches [B, V, C, S, S] seen through a square of `share` [B, V] of the side, else grey."""
    side = patches.shape[-1]
    distance = np.abs(np.arange(side) - (side - 1) / 2)
    seen = distance <= share[..., None] * side / 2
    inside = seen[..., :, None] & seen[..., None, :]
    return np.where(inside[:, :, None], patches, np.uint8(GREY))

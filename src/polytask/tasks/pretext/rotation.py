"""Rotation with classification of patch arrangements (RWC): how do three patches lie, and turned?

Source: Mundhenk, Ho, Chen, "Improvements to Context Based Self-Supervised Learning", CVPR 2018;
used by Kim, Lee, Song as their strongest context task.
Differs from the paper: patches are cut from the image at hand (14 pixels of 32) instead of 96 of
110; the list of 20 arrangements, which the paper only draws, is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from polytask.batch import Input
from polytask.data.making import Floats, Made, Raw
from polytask.tasks.pretext.patches import PatchGrid, through_apertures, without_chroma, yoked
from polytask.tasks.pretext.puzzle import Puzzle, PuzzleOptions

if TYPE_CHECKING:
    from polytask.tasks.task import TaskOptions

TURNS = 4


def arrangements() -> np.ndarray:
    """Where three patches lie [20, 3, 2]: rows and columns of a 3 × 3 grid of overlapping patches.

    Eight directed lines (neighbour, centre, opposite neighbour), then three corners of the 2 × 2
    grid: one of them first (any of three), the other two in reading order, one missing (any of 4).
    """
    around = [(r, c) for r in range(3) for c in range(3) if (r, c) != (1, 1)]
    lines = [[(r, c), (1, 1), (2 - r, 2 - c)] for r, c in around]
    corners = [(r, c) for r in (0, 2) for c in (0, 2)]
    bends = [
        [first, *[c for c in corners if c not in (missing, first)]]
        for missing in corners
        for first in corners
        if first != missing
    ]
    return np.array(lines + bends)


class RotationOptions(PuzzleOptions):
    """The changes that keep the task from being solved by accident; off in scoring."""

    flip: bool = Field(True, description="mirror half of the images")
    chroma_blur: float = Field(
        0.14, ge=0, le=0.5, description="width of the blur of colours, of the image's side"
    )
    aperture: float = Field(
        0.6, gt=0, le=1, description="least share of a patch's side that is seen; 1 shows all"
    )


class Rotation(Puzzle):
    """80 classes: arrangement + 20 · quarter turns; every patch is turned in its place."""

    Options = RotationOptions
    options: RotationOptions

    def __init__(self, name: str, options: TaskOptions) -> None:
        super().__init__(name, options)
        self.arrangements = arrangements()
        self.classes = [
            f"{kind}, turned {90 * turn}"
            for turn in range(TURNS)
            for kind in map(str, range(len(self.arrangements)))
        ]

    @property
    def views(self) -> int:
        return 3

    def input(self, seen: Input) -> Input:
        side = PatchGrid.of(seen.height, seen.width).side
        return Input(seen.channels, side, side)

    def make(self, raw: Raw) -> Made:
        pixels = raw.pixels
        grid = PatchGrid.of(*pixels.shape[-2:])
        kind = raw.below(len(self.arrangements), "arrangement")[:, 0]
        turn = raw.below(TURNS, "turn")[:, 0]
        if raw.is_training and self.options.flip:
            # Before patches are cut, so that the arrangement that is cut stays the right answer.
            mirrored = raw.below(2, "flip")[:, :, None, None] == 1
            pixels = np.where(mirrored, pixels[..., ::-1], pixels)
        width = int(self.options.chroma_blur * min(pixels.shape[-2:])) | 1
        if width > 1:
            pixels = without_chroma(pixels, width)
        patches = grid.cut(pixels, self.arrangements[kind], yoked(grid, raw))
        if raw.is_training:
            patches = through_apertures(patches, self._apertures(raw))
        patches = turned(patches, turn)
        label = kind + len(self.arrangements) * turn
        return Made(torch.from_numpy(patches).flatten(0, 1), torch.from_numpy(label))

    def _apertures(self, raw: Raw) -> Floats:
        """The seen share of each patch [B, 3]: one patch, drawn at random, is seen whole."""
        least = self.options.aperture
        share = least + (1 - least) * raw.share("aperture", self.views)
        whole = raw.below(self.views, "whole")
        return np.where(np.arange(self.views) == whole, 1.0, share)


def turned(patches: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Patches [B, V, C, S, S], those of image b turned by `turn[b]` quarters."""
    out = np.empty_like(patches)
    for quarter in range(TURNS):
        chosen = turn == quarter
        out[chosen] = np.rot90(patches[chosen], quarter, axes=(-2, -1))
    return out

"""Jigsaw++: a jigsaw in which up to two tiles come from another image.

Source: Noroozi, Vinjimuri, Favaro, Pirsiavash, "Boosting Self-Supervised Learning via Knowledge
Transfer", CVPR 2018, §4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from polytask.batch import Input
from polytask.data.making import Made, Raw
from polytask.tasks.pretext.permutations import distant_permutations
from polytask.tasks.pretext.puzzle import Puzzle, PuzzleOptions
from polytask.tasks.pretext.tiles import TileGrid, greyed, jittered, permuted, standardised

if TYPE_CHECKING:
    from polytask.tasks.task import TaskOptions

GRID = 3


class JigsawPPOptions(PuzzleOptions):
    """The puzzle, and how tiles are changed in training."""

    permutations: int = Field(701, ge=2, le=5000, description="orders to tell apart")
    occluded: int = Field(2, ge=0, le=8, description="most tiles that come from another image")
    grey: float = Field(0.7, ge=0, le=1, description="share of the images without colour")


class JigsawPP(Puzzle):
    """A class is a permutation of nine tiles; any two permutations differ in `occluded` + 1 places
    or more, so that the seen tiles have one answer. In scoring no tile is foreign."""

    Options = JigsawPPOptions
    options: JigsawPPOptions

    def __init__(self, name: str, options: TaskOptions) -> None:
        super().__init__(name, options)
        wanted, least = self.options.permutations, self.options.occluded + 1
        self.permutations = distant_permutations(GRID**2, wanted, least)
        self.classes = [" ".join(map(str, p)) for p in self.permutations.tolist()]

    @property
    def views(self) -> int:
        return GRID**2

    def input(self, seen: Input) -> Input:
        side = TileGrid.of(GRID, seen.height, seen.width).side
        return Input(seen.channels, side, side)

    def make(self, raw: Raw) -> Made:
        grid = TileGrid.of(GRID, *raw.pixels.shape[-2:])
        tiles = grid.cut(raw.pixels, raw)
        if raw.is_training and self.options.occluded:
            foreign = grid.cut(raw.strangers("stranger"), raw)
            tiles = np.where(self.occluded(raw)[:, :, None, None, None], foreign, tiles)
        tiles = tiles.astype(np.float64)
        if raw.is_training:
            tiles = jittered(tiles, raw)
            tiles = greyed(tiles, raw.share("grey")[:, 0] < self.options.grey)
        answer = raw.below(len(self.permutations), "order")[:, 0]
        tiles = permuted(standardised(tiles), self.permutations[answer])
        return Made(torch.from_numpy(tiles).flatten(0, 1), torch.from_numpy(answer))

    def occluded(self, raw: Raw) -> np.ndarray:
        """Which tiles [B, 9] are hidden: 0 to `occluded` of them, each number equally often."""
        count = raw.below(self.options.occluded + 1, "occluded")
        rank = raw.bits("hidden", self.views).argsort(1).argsort(1)
        return rank < count

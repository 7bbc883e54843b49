"""Jigsaw: in which of a set of orders are the tiles of the image?

Source: Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw
Puzzles", ECCV 2016.
Differs from the paper: permutations by the largest least Hamming distance instead of the largest
mean; `mode: mosaic` puts the tiles into one image, which costs one pass instead of one per tile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field

from polytask.batch import Input
from polytask.data.making import Made, Pixels, Raw
from polytask.errors import UserError
from polytask.tasks.pretext.permutations import spread_permutations
from polytask.tasks.pretext.puzzle import Puzzle, PuzzleOptions
from polytask.tasks.pretext.tiles import (
    TileGrid,
    greyed,
    jittered,
    laid_out,
    permuted,
    standardised,
)
from polytask.tasks.task import Pictures

if TYPE_CHECKING:
    from polytask.tasks.task import TaskOptions


class JigsawOptions(PuzzleOptions):
    """The puzzle: how many tiles and orders, and how tiles are changed in training."""

    grid: Literal[2, 3] = Field(3, description="tiles a side")
    permutations: int | None = Field(
        None, ge=2, le=5000, description="orders to tell apart; 24 of 2 × 2 tiles, 100 of 3 × 3"
    )
    mode: Literal["siamese", "mosaic"] = Field(
        "siamese", description="a pass per tile, or one of all tiles in one image"
    )
    grey: float = Field(0.3, ge=0, le=1, description="share of the images without colour")


class Jigsaw(Puzzle):
    """A class is a permutation: place j holds tile π(j)."""

    Options = JigsawOptions
    options: JigsawOptions

    def __init__(self, name: str, options: TaskOptions) -> None:
        super().__init__(name, options)
        tiles = self.options.grid**2
        count = self.options.permutations or min(math.factorial(tiles), 100)
        if count > math.factorial(tiles):
            raise UserError.at(
                f"tasks.{name}.permutations",
                f"got {count}; {tiles} tiles have {math.factorial(tiles)} orders.",
            )
        self.permutations = spread_permutations(tiles, count)
        self.classes = [" ".join(map(str, p)) for p in self.permutations.tolist()]

    @property
    def views(self) -> int:
        return self.options.grid**2 if self.options.mode == "siamese" else 1

    @property
    def cells(self) -> int:
        return self.options.grid if self.options.mode == "mosaic" else 1

    def input(self, seen: Input) -> Input:
        grid = TileGrid.of(self.options.grid, seen.height, seen.width)
        side = grid.side if self.options.mode == "siamese" else grid.count * grid.side
        return Input(seen.channels, side, side)

    def pictures(self, seen: Pixels, prediction: Any, target: Any) -> Pictures:
        tiles = seen if self.options.mode == "siamese" else self._tiles_of(seen[0])
        chosen = self.permutations[[int(target[0]), int(prediction[0].argmax())]]
        right, answer = (laid_out(tiles[np.argsort(order)]) for order in chosen)
        return Pictures(laid_out(tiles), right, answer)

    def _tiles_of(self, mosaic: Pixels) -> Pixels:
        """The tiles [T, S, S, 3] of a mosaic [H, W, 3]."""
        count = self.options.grid
        rows = np.split(mosaic, count)
        return np.stack([tile for row in rows for tile in np.split(row, count, axis=1)])

    def make(self, raw: Raw) -> Made:
        grid = TileGrid.of(self.options.grid, *raw.pixels.shape[-2:])
        tiles = grid.cut(raw.pixels, raw).astype(np.float64)
        if raw.is_training:
            tiles = jittered(tiles, raw)
            tiles = greyed(tiles, raw.share("grey")[:, 0] < self.options.grey)
        answer = raw.below(len(self.permutations), "order")[:, 0]
        tiles = permuted(standardised(tiles), self.permutations[answer])
        if self.options.mode == "mosaic":
            images = torch.from_numpy(np.ascontiguousarray(grid.mosaic(tiles)))
        else:
            images = torch.from_numpy(tiles).flatten(0, 1)
        return Made(images, torch.from_numpy(answer))

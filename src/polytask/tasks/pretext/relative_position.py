"""Relative position: which of the eight neighbours of a patch is the other one?

Source: Doersch, Gupta, Efros, "Unsupervised Visual Representation Learning by Context Prediction",
ICCV 2015; one of the four tasks of Doersch and Zisserman, "Multi-task Self-Supervised Visual
Learning", ICCV 2017.
Differs from the paper: patches overlap where images are small, colours are blurred instead of
dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field

from polytask.batch import Input
from polytask.data.making import Made, Raw
from polytask.tasks.pretext.patches import PatchGrid, without_chroma, yoked
from polytask.tasks.pretext.puzzle import Puzzle, PuzzleOptions

if TYPE_CHECKING:
    from polytask.tasks.task import TaskOptions

AROUND = [(r, c) for r in range(3) for c in range(3) if (r, c) != (1, 1)]
NAMES_OF_PLACES = (
    *("upper left", "above", "upper right", "left"),
    *("right", "lower left", "below", "lower right"),
)


class RelativePositionOptions(PuzzleOptions):
    """How patches are cut."""

    chroma_blur: float = Field(
        0.14, ge=0, le=0.5, description="width of the blur of colours, of the image's side"
    )


class RelativePosition(Puzzle):
    """Eight classes: where the second patch lies as seen from the first, the centre."""

    Options = RelativePositionOptions
    options: RelativePositionOptions

    def __init__(self, name: str, options: TaskOptions) -> None:
        super().__init__(name, options)
        self.classes = list(NAMES_OF_PLACES)

    @property
    def views(self) -> int:
        return 2

    def input(self, seen: Input) -> Input:
        side = PatchGrid.of(seen.height, seen.width).side
        return Input(seen.channels, side, side)

    def make(self, raw: Raw) -> Made:
        grid = PatchGrid.of(*raw.pixels.shape[-2:])
        width = int(self.options.chroma_blur * min(raw.pixels.shape[-2:])) | 1
        pixels = without_chroma(raw.pixels, width) if width > 1 else raw.pixels
        place = raw.below(len(AROUND), "place")[:, 0]
        cells = np.stack([np.ones((len(raw), 2), int), np.array(AROUND)[place]], axis=1)
        patches = grid.cut(pixels, cells, yoked(grid, raw))
        return Made(torch.from_numpy(patches).flatten(0, 1), torch.from_numpy(place))

"""From a picture's pixels to what the network reads: one size, three channels, normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polytask.batch import Input
from polytask.data.decode import resize

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]


@dataclass(frozen=True)
class Normalisation:
    """(x / 255 − mean) / std for each of three channels, the same for every data set."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor, out: Tensor | None = None) -> Tensor:
        """Turn uint8 images [B, 1 or 3, H, W] into float32 [B, 3, H, W], into `out` if given.

        Grey images become three channels that are equal but for the normalisation.
        """
        count, _, height, width = images.shape
        if out is None:
            out = torch.empty(count, 3, height, width)
        scale, shift = self._factors
        # Scaled, then shifted, each rounded by itself: one image alone gives the bits of a batch.
        return out.copy_(images).mul_(scale).sub_(shift)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64).view(2, 3, 1, 1)
        return (1 / (255 * std)).float(), (mean / std).float()


CENTRED = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of published weights


def coloured(pixels: Pixels) -> Pixels:
    """Images [B, C, H, W] with three channels; grey ones are repeated."""
    return pixels if pixels.shape[1] == 3 else np.repeat(pixels, 3, axis=1)


def fit(image: Pixels, sizes: Sequence[Size]) -> Pixels:
    """Resize a decoded image [H, W, C] to each (height, width) in turn; give [C, H, W]."""
    for size in sizes:
        if image.shape[:2] != size:
            image = resize(image, size)
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def prepare(
    image: Pixels,
    input: Input,
    normalisation: Normalisation = CENTRED,
    size: Size | None = None,
) -> Tensor:
    """Make a decoded picture [H, W, C] the network's input [3, H, W], exactly as in training.

    `size` (height, width) is that of the data set's own images: a picture is brought to it first.
    """
    sizes = [size or (input.height, input.width), (input.height, input.width)]
    return normalisation(torch.from_numpy(fit(image, sizes))[None])[0]

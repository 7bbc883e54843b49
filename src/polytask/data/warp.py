"""Crops, turns and tilts as one projective map an image, so that pixels are resampled once.

Coordinates are −1 to 1 from edge to edge. A map leads from a place in the changed image to the
place in the original that is shown there; labels on the image are moved by the same map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from polytask.config.augment import Augment

Maps = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

TRIES = 10  # for a crop that fits into the image
CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
NUMBERS = 2 * TRIES + 2 + 2 + 8  # random numbers that an image takes


@dataclass(frozen=True)
class Warp:
    """Maps [B, 3, 3] and by how much each image is turned, [B], in radians counter-clockwise."""

    matrices: Floats
    turns: Floats

    def take(self, rows: npt.ArrayLike) -> Warp:
        """The warps of the given images of the batch."""
        chosen = np.asarray(rows)
        return Warp(self.matrices[chosen], self.turns[chosen])

    def maps(self, maps: Maps, fill: float = 0, smooth: bool = True) -> Maps:
        """Change maps [B, C, H, W]; places beyond the image are `fill`.

        Pixels are interpolated where `smooth`, else the nearest is taken.
        """
        height, width = maps.shape[-2:]
        places = self._places(height, width)
        values = torch.from_numpy(np.ascontiguousarray(maps)).float()
        taken = F.grid_sample(
            values, places, "bilinear" if smooth else "nearest", "border", align_corners=False
        )
        # The last digits of a place on the very edge are noise.
        beyond = (places.abs() > 1 + 1e-5).any(dim=-1)[:, None]
        changed: Maps = taken.masked_fill_(beyond, fill).numpy()
        if maps.dtype.kind in "iu":
            changed = changed.round()
        return changed.astype(maps.dtype)

    def _places(self, height: int, width: int) -> Tensor:
        """Where each pixel of the changed images comes from, [B, H, W, 2]."""
        x = (np.arange(width) + 0.5) * 2 / width - 1
        y = (np.arange(height) + 0.5) * 2 / height - 1
        grid = np.stack([*np.meshgrid(x, y), np.ones((height, width))], axis=-1)
        found = np.einsum("bij,hwj->bhwi", self.matrices, grid)
        return torch.from_numpy((found[..., :2] / found[..., 2:]).astype(np.float32))

    def boxes(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Move boxes [B, …, 4] in pixels: the frame of the four corners, cut to the image.

        A box without area stays without.
        """
        half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        x0, y0, x1, y1 = boxes.double().unbind(-1)
        corners = torch.stack([x0, y0, x1, y0, x1, y1, x0, y1], dim=-1)
        corners = corners.view(*boxes.shape[:-1], 4, 2) / half - 1
        back = torch.from_numpy(np.linalg.inv(self.matrices))
        shape = (-1, *[1] * (corners.ndim - 3), 3, 3)
        ones = torch.ones_like(corners[..., :1])
        moved = torch.cat([corners, ones], dim=-1) @ back.view(shape).mT
        moved = ((moved[..., :2] / moved[..., 2:]).clamp(-1, 1) + 1) * half
        framed = torch.cat([moved.amin(-2), moved.amax(-2)], dim=-1).to(boxes.dtype)
        return torch.where(((x1 > x0) & (y1 > y0))[..., None], framed, boxes)

    def normals(self, normals: Tensor) -> Tensor:
        """Surface normals [B, 3, H, W], y pointing up, turned in place as their images are."""
        cos = torch.from_numpy(np.cos(self.turns)).float()[:, None, None]
        sin = torch.from_numpy(np.sin(self.turns)).float()[:, None, None]
        x, y = normals[:, 0].clone(), normals[:, 1].clone()
        normals[:, 0], normals[:, 1] = cos * x - sin * y, sin * x + cos * y
        return normals


def draw_warp(augment: Augment, drawn: Floats, height: int, width: int) -> Warp:
    """The warps of images of that size, from uniform random numbers [B, NUMBERS]."""
    crops, rest = np.split(drawn, [2 * TRIES + 2], axis=1)
    matrices = _crops(augment, crops)
    happens = rest[:, 0] < augment.chance
    low, high = augment.rotate
    turns = np.where(happens, np.deg2rad(low + (high - low) * rest[:, 1]), 0.0)
    if augment.perspective:
        tilts = _tilts(augment.perspective, rest[:, 2:])
        matrices = matrices @ np.where(happens[:, None, None], tilts, np.eye(3))
    if turns.any():
        matrices = matrices @ _turns(turns, height, width)
    return Warp(matrices, turns)


def _crops(augment: Augment, drawn: Floats) -> Floats:
    """Crops of a share of the image's area; the first of some tries that fits, else all of it.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, §6, as torchvision reads
    it: the logarithm of the ratio is uniform.
    """
    count = len(drawn)
    matrices = np.tile(np.eye(3), (count, 1, 1))
    if augment.scale is None:
        return matrices
    tries, place = drawn[:, :-2].reshape(count, TRIES, 2), drawn[:, -2:]
    low, high = augment.scale
    area = low + (high - low) * tries[..., 0]
    narrow, wide = np.log(augment.ratio)
    ratio = np.exp(narrow + (wide - narrow) * tries[..., 1])
    sides = np.sqrt(np.stack([area * ratio, area / ratio], axis=-1))  # shares of width and height
    fits = (sides <= 1 + 1e-9).all(axis=-1)
    first = sides[np.arange(count), fits.argmax(axis=1)].clip(max=1)
    side = np.where(fits.any(axis=1)[:, None], first, 1.0)
    matrices[:, [0, 1], [0, 1]] = side
    matrices[:, :2, 2] = (1 - side) * (2 * place - 1)
    return matrices


def _turns(turns: Floats, height: int, width: int) -> Floats:
    """Turns about the middle, counter-clockwise as the picture is seen."""
    cos, sin, aspect = np.cos(turns), np.sin(turns), height / width
    matrices = np.tile(np.eye(3), (len(turns), 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = cos
    matrices[:, 0, 1], matrices[:, 1, 0] = -sin * aspect, sin / aspect
    return matrices


def _tilts(distortion: float, drawn: Floats) -> Floats:
    """Maps that move each corner inwards by up to `distortion` of half a side, from [B, 8]."""
    ends = CORNERS * (1 - distortion * drawn.reshape(-1, 4, 2))
    x, y = ends[..., 0], ends[..., 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    u, v = CORNERS[:, 0], CORNERS[:, 1]
    # Eight equations of the eight entries: corner k of the changed image shows corner k of the own.
    rows = np.concatenate(
        [
            np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=-1),
            np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=-1),
        ],
        axis=1,
    )
    targets = np.tile(np.concatenate([u, v]), (len(drawn), 1))
    entries = np.linalg.solve(rows, targets[..., None])[..., 0]
    return np.concatenate([entries, np.ones((len(drawn), 1))], axis=1).reshape(-1, 3, 3)

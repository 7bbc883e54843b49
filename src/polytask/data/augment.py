"""Random changes of training images, drawn first as numbers, then applied to a whole batch.

What happens to an image depends on a key, the image's number and how often it was drawn before in
the epoch, never on its neighbours in the batch. The numbers are drawn before anything changes, so
that labels which lie on the image follow it: a mask through the same crop, boxes by the same shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polytask.batch import Value
from polytask.data.source import Augment
from polytask.randomness import counter_hash

IGNORED = 255  # the class of mask pixels that come from outside the image

Maps = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Change:
    """What happens to each of B images: padded by `pad` pixels, cropped back to its size with the
    corner at (`top`, `left`) [B], and mirrored where `flip` [B]."""

    pad: int
    top: Ints
    left: Ints
    flip: npt.NDArray[np.bool_]

    def take(self, rows: npt.ArrayLike) -> Change:
        """The change of the given images of the batch."""
        chosen = np.asarray(rows)
        return Change(self.pad, self.top[chosen], self.left[chosen], self.flip[chosen])

    def images(self, images: Maps, fill: int = 0) -> Maps:
        """Change maps [B, C, H, W]; pixels from outside the image are `fill`."""
        count, channels, height, width = images.shape
        pad = self.pad
        if pad:
            padded = np.full(
                (count, channels, height + 2 * pad, width + 2 * pad), fill, images.dtype
            )
            padded[:, :, pad:-pad, pad:-pad] = images
            crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
            images = crops[np.arange(count), :, self.top, self.left]
        if self.flip.any():
            images = images if pad else images.copy()
            images[self.flip] = images[self.flip][..., ::-1]
        return images

    def _maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        return torch.from_numpy(np.array(self.images(maps.numpy(), fill)))

    def boxes(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Move boxes [B, …, 4] (x0, y0, x1, y1 in pixels) with their images, cut to the image."""
        per_image = (-1, *[1] * (boxes.ndim - 2))
        right = torch.from_numpy(self.pad - self.left).view(per_image)
        down = torch.from_numpy(self.pad - self.top).view(per_image)
        x0, y0, x1, y1 = boxes.unbind(-1)
        x0, x1 = (x0 + right).clamp(0, width), (x1 + right).clamp(0, width)
        y0, y1 = (y0 + down).clamp(0, height), (y1 + down).clamp(0, height)
        flip = torch.from_numpy(self.flip).view(per_image)
        x0, x1 = torch.where(flip, width - x1, x0), torch.where(flip, width - x0, x1)
        return torch.stack([x0, y0, x1, y1], dim=-1)

    def target(self, value: Value, height: int, width: int) -> Value:
        """Change the parts of a target that lie on images of that size: `mask` and `depth`
        [B, H, W], `normals` [B, 3, H, W], whose x turns with a mirrored image, and `boxes`
        [B, …, 4]; everything else stays. Depths and normals from beyond the image are 0, unknown.
        """
        if not isinstance(value, dict):
            return value
        changed = dict(value)
        for name, fill in (("mask", IGNORED), ("depth", 0)):
            if name in value:
                changed[name] = self._maps(value[name][:, None], fill)[:, 0]
        if "normals" in value:
            normals = self._maps(value["normals"])
            normals[torch.from_numpy(self.flip), 0] *= -1
            changed["normals"] = normals
        if "boxes" in value:
            changed["boxes"] = self.boxes(value["boxes"], height, width)
        return changed


def draw_change(augment: Augment, key: int, index: Ints, passes: Ints) -> Change:
    """The changes of images numbered `index` [B], drawn for the `passes` [B]-th time (from 0)."""
    bits = counter_hash(key, index[:, None], passes[:, None], np.arange(3))
    # The upper half of 64 random bits times n, without its lower half, is uniform on 0 … n − 1.
    places = np.uint64(2 * augment.crop + 1)
    corner = ((bits[:, 1:] >> np.uint64(32)) * places >> np.uint64(32)).astype(np.int64)
    flip = (bits[:, 0] >> np.uint64(63)).astype(bool) & augment.flip
    return Change(augment.crop, corner[:, 0], corner[:, 1], flip)

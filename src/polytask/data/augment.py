"""Random changes of training images, drawn first as numbers, then applied to a whole batch.

What happens to an image depends on a key, the image's number and how often it was drawn before in
the epoch, never on its neighbours in the batch. The numbers are drawn before anything changes, so
that labels which lie on the image follow it: a mask through the same crop, boxes by the same shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polytask.batch import Value
from polytask.config.augment import Augment
from polytask.data.warp import NUMBERS, Warp, draw_warp
from polytask.randomness import counter_hash

AT_A_TIME = 256  # images whose labels are changed together to be counted
IGNORED = 255  # the class of mask pixels that come from outside the image
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601

Maps = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """What happens to each of B images: cropped, tilted and turned by `warp`, padded by `pad`
    pixels, cropped back to its size with the corner at (`top`, `left`) [B], mirrored where `flip`
    [B], and its brightness, contrast and saturation multiplied by `colours` [B, 3]."""

    pad: int
    top: Ints
    left: Ints
    flip: npt.NDArray[np.bool_]
    warp: Warp | None = None
    colours: Floats | None = None

    def take(self, rows: npt.ArrayLike) -> Change:
        """The change of the given images of the batch."""
        chosen = np.asarray(rows)
        return Change(
            self.pad,
            self.top[chosen],
            self.left[chosen],
            self.flip[chosen],
            None if self.warp is None else self.warp.take(chosen),
            None if self.colours is None else self.colours[chosen],
        )

    def images(self, images: Maps) -> Maps:
        """Change images [B, C, H, W]; pixels from outside are 0."""
        changed = self._moved(images, 0, smooth=True)
        return changed if self.colours is None else _coloured(changed, self.colours)

    def _moved(self, maps: Maps, fill: int, smooth: bool) -> Maps:
        """Move maps [B, C, H, W] with their images; pixels from outside are `fill`."""
        if self.warp is not None:
            maps = self.warp.maps(maps, fill, smooth)
        count, channels, height, width = maps.shape
        pad = self.pad
        if pad:
            padded = np.full((count, channels, height + 2 * pad, width + 2 * pad), fill, maps.dtype)
            padded[:, :, pad:-pad, pad:-pad] = maps
            crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
            maps = crops[np.arange(count), :, self.top, self.left]
        if self.flip.any():
            maps = maps if pad or self.warp is not None else maps.copy()
            maps[self.flip] = maps[self.flip][..., ::-1]
        return maps

    def _labels(self, maps: Tensor, fill: int = 0) -> Tensor:
        return torch.from_numpy(np.array(self._moved(maps.numpy(), fill, smooth=False)))

    def boxes(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Move boxes [B, …, 4] (x0, y0, x1, y1 in pixels) with their images, cut to the image.

        Of a turned box, the frame around it is left.
        """
        if self.warp is not None:
            boxes = self.warp.boxes(boxes, height, width)
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
        [B, H, W], `normals` [B, 3, H, W], which turn with their image, and `boxes` [B, …, 4];
        everything else stays. Depths and normals from beyond the image are 0, unknown.
        """
        if not isinstance(value, dict):
            return value
        changed = dict(value)
        for name, fill in (("mask", IGNORED), ("depth", 0)):
            if name in value:
                changed[name] = self._labels(value[name][:, None], fill)[:, 0]
        if "normals" in value:
            normals = self._labels(value["normals"])
            if self.warp is not None:
                normals = self.warp.normals(normals)
            normals[torch.from_numpy(self.flip), 0] *= -1
            changed["normals"] = normals
        if "boxes" in value:
            changed["boxes"] = self.boxes(value["boxes"], height, width)
        return changed


def draw_change(
    augment: Augment, key: int, index: Ints, passes: Ints, size: tuple[int, int] = (1, 1)
) -> Change:
    """The changes of images numbered `index` [B], drawn for the `passes` [B]-th time (from 0).

    Turning needs the images' `size`, height and width.
    """
    bits = counter_hash(key, index[:, None], passes[:, None], np.arange(3))
    # The upper half of 64 random bits times n, without its lower half, is uniform on 0 … n − 1.
    places = np.uint64(2 * augment.crop + 1)
    corner = ((bits[:, 1:] >> np.uint64(32)) * places >> np.uint64(32)).astype(np.int64)
    flip = (bits[:, 0] >> np.uint64(63)).astype(bool) & augment.flip
    warp, colours = None, None
    if augment.warps or augment.jitter:
        counters = np.arange(3, 3 + NUMBERS + 3)
        bits = counter_hash(key, index[:, None], passes[:, None], counters)
        drawn = (bits >> np.uint64(11)).astype(np.float64) / 2**53
        if augment.warps:
            warp = draw_warp(augment, drawn[:, :NUMBERS], *size)
        if augment.jitter:
            colours = 1 + augment.jitter * (2 * drawn[:, NUMBERS:] - 1)
    return Change(augment.crop, corner[:, 0], corner[:, 1], flip, warp, colours)


def lost(
    value: Mapping[str, Any], rows: Ints, change: Change, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Boxes of the images `rows` and how many of them the change leaves nothing of; and masks.

    A mask is lost where it had pixels to learn and all that are left are ignored.
    """
    boxes = lost_boxes = masks = lost_masks = 0
    for first in range(0, len(rows), AT_A_TIME):
        part = slice(first, first + AT_A_TIME)
        moves = change.take(np.arange(len(rows))[part])
        if "boxes" in value:
            own = torch.from_numpy(np.asarray(value["boxes"][rows[part]], np.float32))
            before, after = (
                (some[..., 2:] > some[..., :2]).all(-1) for some in (own, moves.boxes(own, *size))
            )
            boxes += int(before.sum())
            lost_boxes += int((before & ~after).sum())
        if "mask" in value:
            mask = torch.from_numpy(np.asarray(value["mask"][rows[part]]))
            moved: Any = moves.target({"mask": mask}, *size)
            before, after = ((m != IGNORED).flatten(1).any(1) for m in (mask, moved["mask"]))
            masks += int(before.sum())
            lost_masks += int((before & ~after).sum())
    return boxes, lost_boxes, masks, lost_masks


def _coloured(images: Maps, colours: Floats) -> Maps:
    """Brightness, then contrast about the mean, then saturation about each pixel's grey."""
    brightness, contrast, saturation = colours.T.astype(np.float32)[:, :, None, None, None]
    found = images.astype(np.float32) * brightness
    found = found.clip(0, 255)
    mean = _grey(found).mean(axis=(2, 3), keepdims=True)
    found = (mean + (found - mean) * contrast).clip(0, 255)
    if images.shape[1] == 3:
        grey = _grey(found)
        found = (grey + (found - grey) * saturation).clip(0, 255)
    return np.asarray(found.round().astype(np.uint8))


def _grey(images: Maps) -> Maps:
    """Images [B, C, H, W] as [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    return np.asarray(np.einsum("bchw,c->bhw", images, GREY)[:, None])

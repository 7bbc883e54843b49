"""Labels drawn on their picture: masks as colours laid over it, boxes as frames."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.data.augment import IGNORED

if TYPE_CHECKING:
    from PIL.Image import Image

OPACITY = 0.5
GREY = (128, 128, 128)  # of ignored pixels
FRAME = (255, 214, 0)  # no mask of the first classes is yellow or blue
RAMP = ((240, 249, 33), (248, 149, 64), (204, 71, 120), (126, 3, 168), (13, 8, 135))  # near to far
STEP = 0.38196601125  # of the colour circle: neighbouring classes end up far apart


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour for a class from 1 on."""
    hue = (0.95 + STEP * (number - 1)) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def with_mask(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lay a mask [H, W] over pixels [H, W, 3]; class 0, the background, stays as it is."""
    drawn = pixels.astype(float)
    for number in np.unique(mask[mask > 0]).tolist():
        colour = GREY if number == IGNORED else colour_of(number)
        where = mask == number
        drawn[where] = (1 - OPACITY) * drawn[where] + OPACITY * np.array(colour)
    return drawn.round().astype(np.uint8)


def depth_colours(depth: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Depths [H, W] as colours [H, W, 3] from near to far, the scale being that of others.

    Grey where the depth is not known, which 0 stands for.
    """
    known = like[like > 0]
    near, far = np.percentile(known, (2, 98)) if known.size else (0.0, 1.0)
    place = (depth - near) / max(far - near, 1e-6) * (len(RAMP) - 1)
    parts = [np.interp(place, range(len(RAMP)), part) for part in zip(*RAMP, strict=True)]
    colours = np.where(depth[..., None] > 0, np.stack(parts, axis=-1), GREY)
    return colours.round().astype(np.uint8)


def draw_box(
    picture: Image, box: Sequence[float], factor: float = 1.0, colour: tuple[int, int, int] = FRAME
) -> None:
    """Frame a box (x0, y0, x1, y1) on a picture that was enlarged by `factor`."""
    from PIL import ImageDraw

    x0, y0, x1, y1 = (edge * factor for edge in box)
    if x1 > x0 and y1 > y0:
        last = (max(x0, x1 - 1), max(y0, y1 - 1))  # Pillow's last pixel is inside
        ImageDraw.Draw(picture).rectangle([(x0, y0), last], outline=colour)

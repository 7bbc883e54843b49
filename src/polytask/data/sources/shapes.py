"""Generated scenes: a main object with its class, attributes, mask and box, among lesser ones.

Source: made here, for dense tasks and tests; nothing is downloaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from polytask.data.images import ImageSet
from polytask.data.source import Source

SHAPES = ["circle", "square", "triangle", "star", "cross"]
ATTRIBUTES = ["filled", "striped", "large", "dark"]
CORNERS = ["x0", "y0", "x1", "y1"]
OVERSAMPLING = 4
# Corners on a unit circle, drawn in turn; a circle is a polygon of many.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": [(1.0, 360 * k / 64) for k in range(64)],
    "square": [(1.0, 45 + 90 * k) for k in range(4)],
    "triangle": [(1.0, 120 * k - 90) for k in range(3)],
    "star": [((1.0, 0.42)[k % 2], 36 * k - 90) for k in range(10)],
    "cross": [
        (radius, 90 * k + turn)
        for k in range(4)
        for radius, turn in ((1.0, -18.0), (1.0, 18.0), (0.437, 45.0))
    ],
}


@dataclass
class Scene:
    """One picture and all that is known of it; the box holds every pixel of the main object."""

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    shape: str
    attributes: dict[str, int]


class Shapes(Source):
    """Columns `shape`; 0 or 1 in `filled`, `striped`, `large`, `dark` (ground); `mask`; x0 to y1.

    `mask` [H, W] holds 0 for the background and k for the k-th shape; lesser objects are in it, lie
    behind the main one and are of other shapes. The box counts pixels from the left upper corner,
    x1 and y1 being the first beyond. Everything is drawn from (seed, i), so that a larger `count`
    only adds images.
    """

    count: int = Field(1000, ge=20, le=1_000_000, description="how many images")
    size: int = Field(64, ge=24, le=512, description="rendered at this size, in pixels")
    seed: int = Field(0, ge=0, description="draws the scenes")

    def read(self, name: str, folder: Path) -> ImageSet:
        del folder
        scenes = [
            draw(SHAPES[i % len(SHAPES)], self.size, np.random.default_rng((self.seed, i)))
            for i in range(self.count)
        ]
        return ImageSet(
            name,
            images=np.stack([scene.image for scene in scenes]),
            columns={
                "shape": [scene.shape for scene in scenes],
                **{a: [scene.attributes[a] for scene in scenes] for a in ATTRIBUTES},
                "mask": [scene.mask for scene in scenes],
                **{corner: [scene.box[k] for scene in scenes] for k, corner in enumerate(CORNERS)},
            },
            default_label="shape",
            classes={"shape": SHAPES, "mask": ["background", *SHAPES]},
        )


def draw(shape: str, size: int, rng: np.random.Generator) -> Scene:
    """A scene whose main object is a `shape`, on a square of `size` pixels."""
    attributes = {attribute: int(rng.integers(2)) for attribute in ATTRIBUTES}
    dark = attributes["dark"]
    ground = rng.uniform(0.05, 0.3, 3) if dark else rng.uniform(0.7, 0.95, 3)
    image = np.broadcast_to(ground, (size, size, 3)).copy()
    mask = np.zeros((size, size), np.uint8)

    others = [other for other in SHAPES if other != shape]
    for other in [others[k] for k in rng.permutation(len(others))[: rng.integers(3)]]:
        radius = rng.uniform(0.07, 0.11)
        cover = _cover(other, radius, rng.uniform(radius, 1 - radius, 2), True, size, rng)
        _paint(image, mask, cover, SHAPES.index(other) + 1, _colour(dark, rng))

    radius = rng.uniform(0.3, 0.4) if attributes["large"] else rng.uniform(0.17, 0.24)
    middle = rng.uniform(radius + 0.02, 0.98 - radius, 2)
    cover = _cover(shape, radius, middle, bool(attributes["filled"]), size, rng)
    colour = _colour(dark, rng)
    if attributes["striped"]:
        y, x = np.mgrid[:size, :size]
        period = size * rng.uniform(0.09, 0.13)
        stripe = np.sin((x + rng.choice([-1, 1]) * y) * (2 * math.pi / period)) > 0
        colour = np.where(stripe[..., None], colour, 0.5 * colour + 0.5 * ground)
    main = _paint(image, mask, cover, SHAPES.index(shape) + 1, colour)

    image += rng.normal(0, rng.uniform(0, 0.04), image.shape)
    rows, columns = np.flatnonzero(main.any(1)), np.flatnonzero(main.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Scene(
        np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), mask, box, shape, attributes
    )


def _colour(dark: int, rng: np.random.Generator) -> np.ndarray:
    """A colour that stands out from a dark or a bright ground in at least one channel."""
    colour = rng.uniform(0.1, 0.9, 3)
    colour[rng.integers(3)] = rng.uniform(0.8, 1) if dark else rng.uniform(0, 0.2)
    return colour


def _cover(
    shape: str,
    radius: float,
    middle: np.ndarray,
    filled: bool,
    size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """How much of each pixel the object covers, [size, size], 0 to 1."""
    side = size * OVERSAMPLING
    turn = rng.uniform(-20, 20)
    corners = [
        (
            side * (middle[0] + radius * r * math.cos(math.radians(angle + turn))),
            side * (middle[1] + radius * r * math.sin(math.radians(angle + turn))),
        )
        for r, angle in OUTLINES[shape]
    ]
    picture = Image.new("L", (side, side))
    pen = ImageDraw.Draw(picture)
    if filled:
        pen.polygon(corners, fill=255)
    else:
        width = round(side * radius * 0.24)
        pen.line([*corners, *corners[:2]], fill=255, width=width, joint="curve")
    return np.asarray(picture.reduce(OVERSAMPLING)) / 255


def _paint(
    image: np.ndarray, mask: np.ndarray, cover: np.ndarray, value: int, colour: np.ndarray
) -> np.ndarray:
    """Blend a colour in; a pixel belongs to the object that covers half of it or more."""
    image += cover[..., None] * (colour - image)
    inside = cover >= 0.5
    mask[inside] = value
    return inside

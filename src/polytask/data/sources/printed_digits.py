"""Digits rendered from 21 typefaces in many sizes, slants, weights and noise levels.

Source: the DejaVu, STIX and Computer Modern fonts that ship with matplotlib; nothing is downloaded.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydantic import Field

from polytask.data.images import ImageSet
from polytask.data.source import Source
from polytask.errors import DataError

DIGITS = list("0123456789")
# Text faces alone: matplotlib's others have no digits, or symbols in their places.
FACES = {
    "train": (
        "DejaVuSans",
        "DejaVuSerif",
        "DejaVuSansMono",
        "STIXGeneral",
        "cmr10",
        "DejaVuSans-BoldOblique",
        "DejaVuSerif-Bold",
        "DejaVuSansMono-Oblique",
        "STIXGeneralBolIta",
        "cmb10",
        "DejaVuSans-Oblique",
        "DejaVuSerif-Italic",
        "DejaVuSansMono-BoldOblique",
        "STIXGeneralItalic",
        "cmti10",
    ),
    "val": ("DejaVuSerif-BoldItalic", "DejaVuSans-Bold", "cmtt10"),
    "test": ("STIXGeneralBol", "DejaVuSansMono-Bold", "cmss10"),
}
ALL_FACES = [face for faces in FACES.values() for face in faces]
OVERSAMPLING = 2


class PrintedDigits(Source):
    """Columns `digit` and `font`. Ink is bright on dark, as in `digits`.

    Image i shows digit i mod 10 in face i mod 21: every 210 images hold each pair once. Everything
    else is drawn from (seed, i), so that a larger `count` only adds images.
    """

    count: int = Field(2000, ge=50, le=1_000_000, description="how many images")
    size: int = Field(28, ge=12, le=256, description="rendered at this size, in pixels")
    seed: int = Field(0, ge=0, description="draws sizes, slants and noise")
    unseen_fonts: bool = Field(
        True,
        description="validate and test on faces that are not in training; false makes the splits "
        "at random, as a task with label `font` needs",
    )

    def read(self, name: str, folder: Path) -> ImageSet:
        del folder
        rows = np.arange(self.count)
        digit, face = rows % len(DIGITS), rows % len(ALL_FACES)
        images = [
            _render(ALL_FACES[f], DIGITS[d], self.size, self.seed, i)
            for i, d, f in zip(rows.tolist(), digit, face, strict=True)
        ]
        splits = {
            split: np.flatnonzero(np.isin(face, [ALL_FACES.index(f) for f in faces]))
            for split, faces in FACES.items()
        }
        return ImageSet(
            name,
            images=np.stack(images),
            columns={
                "digit": [DIGITS[d] for d in digit],
                "font": [ALL_FACES[f] for f in face],
            },
            splits=splits if self.unseen_fonts else {},
            default_label="digit",
            classes={"digit": DIGITS, "font": sorted(ALL_FACES)},
        )


@lru_cache(maxsize=2048)  # a set of the usual size, for all runs of a process
def _render(face: str, digit: str, size: int, seed: int, i: int) -> np.ndarray:
    """One image; who reads it must not write."""
    rng = np.random.default_rng((seed, i))
    side = size * OVERSAMPLING
    glyph = _glyph(face, digit, side, rng.uniform(0.5, 0.85))
    tilted = _tilt(glyph, rng.uniform(-0.25, 0.25), rng.uniform(-8, 8), rng.uniform(-0.06, 0.06, 2))
    blurred = tilted.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.03) * side))
    ink = np.asarray(blurred.reduce(OVERSAMPLING)) / 255
    paper, bright = rng.uniform(0, 0.2), rng.uniform(0.6, 1)
    grey = paper + (bright - paper) * ink + rng.normal(0, rng.uniform(0, 0.12), ink.shape)
    return np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)


def _glyph(face: str, digit: str, side: int, height: float) -> Image.Image:
    """A digit that fills about `height` of a square of `side` pixels, in its middle."""
    font = _font(face, round(height * side / 0.72))  # a digit is about 0.72 em high
    left, top, right, bottom = font.getbbox(digit)
    picture = Image.new("L", (side, side))
    corner = (side - left - right) / 2, (side - top - bottom) / 2
    ImageDraw.Draw(picture).text(corner, digit, font=font, fill=255)
    return picture


def _tilt(picture: Image.Image, slant: float, degrees: float, shift: np.ndarray) -> Image.Image:
    """Slant and turn about the middle, and shift by a share of the side."""
    middle = picture.width / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, slant], [0, 1]])
    offset = middle - turn @ (middle + shift * picture.width)
    return picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        np.c_[turn, offset].ravel().tolist(),
        Image.Resampling.BILINEAR,
    )


@cache
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    if not path.is_file():
        raise DataError.at(
            "data source printed_digits",
            f"matplotlib {matplotlib.__version__} ships no font {path.name} in {path.parent}.",
            'Install it anew: pip install --force-reinstall "matplotlib>=3.9"',
        )
    # The basic layout engine gives the same glyphs whether or not Raqm is installed.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)

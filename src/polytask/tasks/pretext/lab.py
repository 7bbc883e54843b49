"""sRGB and CIE L*a*b*, and the bins of ab colours that sRGB can show.

Source: IEC 61966-2-1 (sRGB) and CIE 15 (L*a*b*), white point D65.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
BEND = 6 / 29


def to_lab(rgb: Floats) -> Floats:
    """Colours [..., 3] from 0 to 1 as L (0 to 100), a, b."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ TO_XYZ.T.astype(rgb.dtype) / WHITE.astype(rgb.dtype)
    bent = np.where(xyz > BEND**3, np.cbrt(xyz), xyz / (3 * BEND**2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def to_rgb(lab: Floats) -> Floats:
    """L, a, b [..., 3] as colours from 0 to 1; what sRGB cannot show is cut."""
    y = (lab[..., 0] + 16) / 116
    bent = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(bent > BEND, bent**3, 3 * BEND**2 * (bent - 4 / 29)) * WHITE
    linear = np.clip(xyz @ np.linalg.inv(TO_XYZ).T, 0, 1)
    rgb: Floats = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb


@cache
def gamut_bins(grid: int) -> Floats:
    """The points (a, b) [Q, 2] of a grid of that spacing that are nearest to some sRGB colour."""
    levels = np.linspace(0, 1, 52)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    return np.unique(np.round(to_lab(colours)[:, 1:] / grid), axis=0) * grid

"""Objects on images as label columns, for sources whose images hold any number of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Box: TypeAlias = "tuple[float, float, float, float]"
Object: TypeAlias = "tuple[str, float, float, float, float]"

EDGES = ("x0", "y0", "x1", "y1")
ROUNDING = 1.0  # pixels: boxes drawn by hand, or rounded, end so much beyond the picture


def object_columns(
    found: Sequence[Sequence[Object]],
    classes: Sequence[str],
    beyond: Sequence[Mapping[str, int | None]],
) -> dict[str, list[Any]]:
    """Label columns of images with these objects each: `boxes` for detection; the largest object's
    `class`, `x0`, `y0`, `x1` and `y1`; and a column of 0 and 1 for each class.

    `beyond` says of each image which classes without a box are there (1) or may be (None).
    """
    largest = [max(objects, key=_area, default=None) for objects in found]
    seen = [
        {**more, **dict.fromkeys([name for name, *_ in objects], 1)}
        for objects, more in zip(found, beyond, strict=True)
    ]
    return {
        **{name: [there.get(name, 0) for there in seen] for name in classes},
        "boxes": [list(objects) for objects in found],
        "class": [None if one is None else one[0] for one in largest],
        **{e: [None if o is None else o[1 + k] for o in largest] for k, e in enumerate(EDGES)},
    }


def object_classes(classes: Sequence[str]) -> Mapping[str, list[str]]:
    """The known classes of the columns above."""
    return {"boxes": list(classes), "class": list(classes)}


def as_box(edges: Sequence[Any], size: tuple[float, float] | None) -> Box:
    """The box with these edges, cut to an image of `size` (width, height) where that is known.

    Raises:
        ValueError: it is no box, or ends more than a pixel outside; with the reason.
    """
    told = ", ".join(f"{edge:g}" if isinstance(edge, int | float) else str(edge) for edge in edges)
    try:
        x0, y0, x1, y1 = (float(edge) for edge in edges)
    except (TypeError, ValueError):
        raise ValueError(f"the box {told} is not made of four numbers") from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"the box {told} is not made of four numbers")
    if x1 <= x0 or y1 <= y0:
        what = "inverted" if x1 < x0 or y1 < y0 else "empty"
        raise ValueError(f"the box {told} is {what}")
    if size is None:
        return x0, y0, x1, y1
    width, height = size
    if min(x0, y0) < -ROUNDING or x1 > width + ROUNDING or y1 > height + ROUNDING:
        raise ValueError(f"the box {told} reaches outside its image of {width:g} × {height:g}")
    cut = max(0.0, x0), max(0.0, y0), min(width, x1), min(height, y1)
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        raise ValueError(f"the box {told} lies outside its image of {width:g} × {height:g}")
    return cut


def _area(one: Object) -> float:
    _, x0, y0, x1, y1 = one
    return (x1 - x0) * (y1 - y0)

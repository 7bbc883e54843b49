"""Activation maps side by side: what every column makes of one image of each task.

Source: the activation maps by which papers on columns compare them (Feng and Chen, fig. 10; Misra
et al. 2016); of a map, the mean over its channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polytask.batch import Batch
from polytask.data.prepare import Normalisation
from polytask.data.sheet import as_pixels
from polytask.sharing.columns import Columns
from polytask.sharing.columns.path import ColumnsPath
from polytask.sharing.grouped import Grouped
from polytask.sharing.method import SharingMethod

if TYPE_CHECKING:
    from PIL.Image import Image

CELL, GAP, LINE = 72, 6, 14
Maps = dict[str, dict[str, Tensor]]


@torch.no_grad()
def maps_by_column(method: Columns, task: str, image: Tensor) -> Maps:
    """By column and stage, the map [H, W] of an image [1, C, H, W] of a task.

    Columns that the task's path runs are as in that path, links included; any other as in the path
    of its own task, if images have as many channels there.
    """
    found: Maps = {column: {} for column in method.columns}
    found |= _walked(method, task, image)
    for other in method.tasks:
        column = method.column_of(other)
        fits = method.setting.input_of(other).channels == image.shape[1]
        if not found.get(column) and fits:
            found[column] = _walked(method, other, image).get(column, {})
    return {column: maps for column, maps in found.items() if maps}


def _walked(method: Columns, task: str, image: Tensor) -> Maps:
    path = method.path(task)
    assert isinstance(path, ColumnsPath)
    stages = {unit: stage for stage, unit in method.frame.stages.items()}
    found: Maps = {}
    for unit, states in path.walk(image):
        for column, state in states.items() if unit in stages else ():
            found.setdefault(column, {})[stages[unit]] = path.feature(state)[0].mean(dim=0)
    return found


def sheet(image: np.ndarray, maps: Mapping[str, Mapping[str, Tensor]]) -> Image:
    """The image, and a row of maps for every column; each map from its least (dark) to its most."""
    from PIL import Image, ImageDraw

    stages = list(dict.fromkeys(stage for row in maps.values() for stage in row))
    size = (len(stages) + 2) * (CELL + GAP) + GAP, LINE + len(maps) * (CELL + GAP) + GAP
    made = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(made)
    for x, stage in enumerate(stages, start=2):
        draw.text((GAP + x * (CELL + GAP), 1), stage[:11], fill="black")
    for y, (column, row) in enumerate(maps.items()):
        top = LINE + y * (CELL + GAP)
        draw.text((GAP, top + CELL // 2 - 6), column[:12], fill="black")
        made.paste(_cell(Image.fromarray(image)), (GAP + CELL + GAP, top))
        for x, stage in enumerate(stages, start=2):
            if stage in row:
                made.paste(_cell(Image.fromarray(_grey(row[stage]))), (GAP + x * (CELL + GAP), top))
    return made


def _cell(picture: Image) -> Image:
    return picture.convert("RGB").resize((CELL, CELL), resample=0)  # 0: every pixel a square


def _grey(values: Tensor) -> np.ndarray:
    least, most = values.min(), values.max()
    scaled = (values - least) / (most - least).clamp(min=1e-12)
    grey: np.ndarray = (scaled * 255).round().to(torch.uint8).cpu().numpy()
    return grey


def write_activations(
    method: SharingMethod, batches: Iterable[Batch], normalisation: Normalisation, folder: Path
) -> None:
    """A sheet for the first image of each task, `activations-<task>.png`, of methods of columns."""
    parts = method.parts() if isinstance(method, Grouped) else [method]
    several = {t: p for p in parts if isinstance(p, Columns) for t in p.tasks if len(p.columns) > 1}
    for task, image in _first_images(batches, set(several)):
        device = next(method.parameters()).device
        maps = maps_by_column(several[task], task, image.to(device))
        folder.mkdir(parents=True, exist_ok=True)
        (pixels,) = as_pixels(image, normalisation)
        sheet(pixels, maps).save(folder / f"activations-{task}.png", optimize=True)


def _first_images(batches: Iterable[Batch], tasks: set[str]) -> Iterator[tuple[str, Tensor]]:
    """(task, its first labelled image [1, C, H, W]), each once; made of one view alone."""
    waiting = set(tasks)
    for batch in batches:
        for task, group, target in batch:
            row = 0 if target.rows is None else next(iter(target.rows.tolist()), None)
            if task in waiting and row is not None and len(group) and group.views == 1:
                waiting.remove(task)
                yield task, group.images[row : row + 1]
        if not waiting:
            return

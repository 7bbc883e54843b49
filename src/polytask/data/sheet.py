"""Contact sheets: a batch as the network sees it, each image with its labels on and below it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polytask.batch import Batch, Group
from polytask.data.overlay import draw_box, with_mask
from polytask.data.prepare import Normalisation

if TYPE_CHECKING:
    from PIL.Image import Image

    from polytask.tasks.task import Task

CELL = 96
LINE = 12
COLUMNS = 8
MOST = 32


def contact_sheet(
    group: Group, tasks: Mapping[str, Task], normalisation: Normalisation, most: int = MOST
) -> Image:
    """Images spread evenly over a group, in rows of eight, un-normalised.

    A group holds its data sets one after the other, so that each shows its share.
    Masks and boxes are drawn on the images, all labels written below.
    """
    from PIL import Image, ImageDraw

    chosen = torch.linspace(0, len(group) - 1, min(most, len(group))).round().long()
    pixels = as_pixels(group.images[:: group.views][chosen], normalisation)
    captions, masks, boxes = (
        [found[i] for i in chosen.tolist()]
        for found in (
            captions_of(group, tasks),
            _parts_of(group, "mask"),
            _parts_of(group, "boxes"),
        )
    )
    lines = max((len(c) for c in captions), default=0)
    height = CELL + LINE * max(1, lines) + 6
    rows = -(-len(pixels) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (CELL + 6) + 6, rows * (height + 6) + 6), "white")
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(pixels):
        left = 6 + (i % COLUMNS) * (CELL + 6)
        top = 6 + (i // COLUMNS) * (height + 6)
        for mask in masks[i]:
            image = with_mask(image, mask)
        shown = Image.fromarray(image)
        shown.thumbnail((CELL, CELL))
        if max(shown.size) < CELL:
            factor = CELL // max(shown.size)
            shown = shown.resize(
                (shown.width * factor, shown.height * factor), Image.Resampling.NEAREST
            )
        for drawn in boxes[i]:
            for box in drawn.reshape(-1, 4).tolist():
                draw_box(shown, box, shown.width / image.shape[1])
        sheet.paste(shown, (left, top))
        for j, line in enumerate(captions[i] or ["not labelled"]):
            draw.text((left, top + CELL + 2 + j * LINE), line[:18], fill="black")
    return sheet


def as_pixels(images: Tensor, normalisation: Normalisation) -> list[np.ndarray]:
    """Normalised images [B, 3, H, W] back to uint8 arrays [H, W, 3]."""
    mean = torch.tensor(normalisation.mean).view(1, 3, 1, 1)
    std = torch.tensor(normalisation.std).view(1, 3, 1, 1)
    shown = ((images.cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return list(shown.permute(0, 2, 3, 1).contiguous().numpy())


def captions_of(group: Group, tasks: Mapping[str, Task]) -> list[list[str]]:
    """The labels of every image of a group, one line a task."""
    lines: list[list[str]] = [[] for _ in range(len(group))]
    for name, target in group.targets.items():
        if target.value is None:
            continue
        rows = range(len(group)) if target.rows is None else target.rows.tolist()
        for row, caption in zip(rows, tasks[name].captions(target.value), strict=True):
            lines[row].append(caption)
    return lines


def _parts_of(group: Group, part: str) -> list[list[np.ndarray]]:
    """What every image of a group has of a part of targets that lie on the image, task by task."""
    found: list[list[np.ndarray]] = [[] for _ in range(len(group))]
    for target in group.targets.values():
        if isinstance(target.value, dict) and part in target.value:
            rows = range(len(group)) if target.rows is None else target.rows.tolist()
            for row, one in zip(rows, target.value[part].cpu().numpy(), strict=True):
                found[row].append(one)
    return found


def write_sheets(
    batch: Batch, tasks: Mapping[str, Task], normalisation: Normalisation, folder: Path
) -> list[Path]:
    """A PNG per group of the batch into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, group in enumerate(batch.groups):
        path = folder / f"batch-{i}-{group.stream}.png"
        contact_sheet(group, tasks, normalisation).save(path, optimize=True)
        written.append(path)
    return written

"""What a trained network looks at, drawn on the images it was asked about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.data.decode import read_image
from polytask.explain.grad_cam import Heat, grad_cam

if TYPE_CHECKING:
    from polytask.deploy import Model


def write_heat(
    model: Model, image: Path, tasks: Iterable[str] | None, unit: str | None, start: Path
) -> Iterator[tuple[str, Heat | None, Path]]:
    """Draw the heat of each task (all by default) over an image, into `<start>-<task>.png`.

    Yields the task, its heat (`None` where it chooses no class; nothing is written then) and file.

    Raises:
        DataError: the image cannot be read.
        UserError: there is no such task or unit, or the folder cannot be written.
    """
    from PIL import Image

    pixels = read_image(image, str(image))
    for task in model.tasks if tasks is None else tasks:
        path, heat = model.path(task), None
        if model.tasks[task].chooses:
            heat = grad_cam(path, model.prepare(pixels, task)[None], unit)
        file = start.with_name(f"{start.name}-{task}.png")
        if heat is not None:
            start.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(heat.over(pixels)).save(file)
        yield task, heat, file

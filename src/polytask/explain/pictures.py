"""What a trained network looks at, drawn on the images it was asked about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.data.decode import read_image
from polytask.errors import UserError
from polytask.explain.grad_cam import NO_CLASS, Heat, grad_cam

if TYPE_CHECKING:
    from polytask.deploy import Model


def write_heat(
    model: Model, image: Path, tasks: Iterable[str] | None, unit: str | None, start: Path
) -> Iterator[tuple[str, Heat | str, Path]]:
    """Draw the heat of each task (all by default) over an image, into `<start>-<task>.png`.

    Yields the task, its heat (or in words why there is none; nothing is written then) and file.

    Raises:
        DataError: the image cannot be read.
        UserError: there is no such task or unit, or the folder cannot be written.
    """
    from PIL import Image

    pixels = read_image(image, str(image))
    for task in model.tasks if tasks is None else tasks:
        heat: Heat | str = NO_CLASS
        if model.tasks[task].chooses:
            heat = grad_cam(model.path(task), model.prepare(pixels, task)[None], unit)
        file = start.with_name(f"{start.name}-{task}.png")
        if isinstance(heat, Heat):
            try:
                start.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(heat.over(pixels)).save(file)
            except OSError as error:
                problem = f"{start.parent} cannot be written: {error.strerror or error}"
                raise UserError.at("--out", problem, "Give another --out.") from error
        yield task, heat, file

"""polytask explain: where a trained network looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import say, show
from polytask.cli.options import Method, Run, Seed, Tasks


def explain(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    task: Tasks = None,
    method: Method = None,
    seed: Seed = None,
    unit: Annotated[
        str | None, typer.Option(metavar="NAME", help="The unit whose map is looked at.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write; explain in the run's by default."),
    ] = None,
) -> None:
    """Draw where each task looks in images (Grad-CAM).

    Writes a picture an image and task. A task that chooses no class, such as a box, is left out.
    """
    from polytask.deploy import load
    from polytask.errors import DataError
    from polytask.explain.grad_cam import Heat
    from polytask.explain.pictures import write_heat

    model = load(run, method, seed)
    folder = out or model.place / "explain"
    has_fault = False
    for number, image in enumerate(images):
        start = folder / f"{number}-{image.stem}"  # images of two folders may share a name
        try:
            for name, heat, file in write_heat(model, image, task, unit, start):
                where = f"looks at {heat.unit}: {file}" if isinstance(heat, Heat) else heat
                show(f"{image}\t{name}\t{where}")
        except DataError as error:
            say(str(error))
            has_fault = True
    if has_fault:
        raise typer.Exit(2)

"""polytask predict: what a trained network says of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from polytask.cli.console import say, show, show_json
from polytask.cli.options import Json, Method, Run, Seed, Tasks, Within


def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    task: Tasks = None,
    method: Method = None,
    seed: Seed = None,
    budget: Within = None,
    overlay: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw the answers on the images, into this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell what each task says of images.

    An image that cannot be read is told on standard error, the others are answered, and the exit
    code is 2. With a budget, the best path that fits answers for tasks that read the same labels.
    --overlay writes NAME.png an image: masks as colours, boxes as frames, classes in words; depths,
    normals and further masks in NAME-TASK.png.
    """
    from polytask.deploy import load
    from polytask.errors import DataError

    names = _file_names(images, overlay) if overlay is not None else []
    if budget is None:
        asked = [(load(run, method, seed), task)]
    else:
        from polytask.budget import Budget
        from polytask.deploy.budget import within

        found = within(run, Budget.parse(budget), method, seed, task)
        for fault in found.refused:
            say(str(fault))
        asked = [(choice.model, [choice.task]) for choice in found.choices]
    answered: list[dict[str, Any]] = []
    has_fault = False
    for number, image in enumerate(images):
        try:
            answers: dict[str, Any] = {}
            for model, tasks in asked:
                answers |= model.predict(image, tasks)
            if overlay is not None:
                _draw(image, answers, overlay, names[number])
        except DataError as error:
            say(str(error))
            has_fault = True
            continue
        answered.append({"image": str(image), "answers": answers})
        if not json:
            for name, answer in answers.items():
                show(f"{image}\t{name}\t{_line(answer)}")
    if json:
        show_json(answered)
    if has_fault:
        raise typer.Exit(2)


def _line(answer: dict[str, Any]) -> str:
    from polytask.explain.drawing import in_words

    if "class" in answer:
        return f"{answer['class']}\t{answer['probability']:.3f}"
    return in_words(answer)


def _file_names(images: Sequence[Path], folder: Path) -> list[str]:
    """A name for the picture of each image: its own, numbered where several share it.

    Raises:
        UserError: the pictures could replace the images.
    """
    from polytask.errors import UserError

    if any(image.parent.resolve() == folder.resolve() for image in images):
        problem = f"{folder} holds the images themselves, which could be overwritten."
        raise UserError.at("--overlay", problem, "Give another folder.")
    names: list[str] = []
    for image in images:
        free = (f"{image.stem}-{k}" if k > 1 else image.stem for k in count(1))
        names.append(next(name for name in free if name not in names))
    return names


def _draw(image: Path, answers: dict[str, Any], folder: Path, name: str) -> None:
    from polytask.data.decode import read_image
    from polytask.explain.drawing import write_overlay

    for file in write_overlay(read_image(image, str(image)), answers, folder, name):
        say(f"{image}: drawn in {file}")

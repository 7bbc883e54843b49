"""polytask predict: what a trained network says of images."""

from __future__ import annotations

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
    json: Json = False,
) -> None:
    """Tell what each task says of images.

    An image that cannot be read is told on standard error, the others are answered, and the exit
    code is 2. With a budget, the best path that fits answers for tasks that read the same labels.
    """
    from polytask.deploy import load
    from polytask.errors import DataError

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
    for image in images:
        try:
            answers: dict[str, Any] = {}
            for model, names in asked:
                answers |= model.predict(image, names)
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
    if "class" in answer:
        return f"{answer['class']}\t{answer['probability']:.3f}"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    if "shares" in answer:
        return ", ".join(f"{name} {share:.1%}" for name, share in answer["shares"].items())
    if "box" in answer:
        return ", ".join(f"{edge:.1f}" for edge in answer["box"])
    return ", ".join(f"{key}: {value}" for key, value in answer.items())

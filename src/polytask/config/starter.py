"""Commented configs to start from: a copy of an example, or one for data that was looked at."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask import registry
from polytask.errors import ConfigError, DataError, unknown
from polytask.examples import bundled

if TYPE_CHECKING:  # data stands above configs
    from polytask.data.survey import Proposal, Survey

SIZES = (32, 64, 96, 128)
STAGES = 4  # how many exits by_class_count can place


def start_from_example(file: Path, name: str) -> None:
    """Write a copy of a bundled example.

    Raises:
        ConfigError: there is no such example, or the file exists.
    """
    examples = {example.name: example.path for example in bundled()}
    if name not in examples:
        raise ConfigError(unknown("--from", "example", name, examples))
    command = f"polytask compare {_quoted(file)}"
    head = f"# Started from the bundled example {name}; run it with: {command}\n#\n"
    _write(file, head + examples[name].read_text("utf-8"))


def start_from_data(file: Path, surveys: Sequence[Survey]) -> None:
    """Write a config for data sets, with comments on what was seen.

    Raises:
        DataError: none of them has labels that a task could learn.
        ConfigError: the file exists.
    """
    if not any(_is_ready(task) for survey in surveys for task in survey.tasks):
        seen = "; ".join(f"{survey.path}: {survey.seen}" for survey in surveys)
        raise DataError.at("--data", f"holds no labels that a task could learn ({seen})")
    _write(file, "\n".join(_lines(file, surveys)) + "\n")


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as sink:
            sink.write(text)
    except FileExistsError as error:
        raise ConfigError.at(str(file), "exists; expected the name of a new file") from error
    except OSError as error:
        raise ConfigError.at(str(file), f"cannot be written: {error.strerror}") from error


def _lines(file: Path, surveys: Sequence[Survey]) -> list[str]:
    names = _distinct([survey.name for survey in surveys])
    named = list(zip(names, surveys, strict=True))
    tasks = [(name, task) for name, survey in named for task in survey.tasks]
    keys = _task_names(tasks)
    return [
        f"# Written by polytask init. Next: polytask check {_quoted(file)}, then polytask compare.",
        "",
        "data:  # each data set once; paths start at this file's folder",
        *(line for name, survey in named for line in _data(file, survey, name)),
        "",
        "tasks:  # what to predict; a blank cell of a table means: not labelled",
        *(
            line
            for key, (data, task) in zip(keys, tasks, strict=True)
            for line in _task(task, data, key)
        ),
        "",
        *_network(max(_size(survey) for survey in surveys)),
        "",
        "methods:  # what to compare; see polytask list methods",
        *_methods(sum(_is_ready(task) for _, task in tasks)),
        "",
        *_training(sum(survey.images for survey in surveys)),
    ]


def _data(file: Path, survey: Survey, name: str) -> list[str]:
    path = os.path.relpath(survey.path.resolve(), file.resolve().parent)
    value = {"source": survey.source, "path": path, "size": _size(survey)}
    is_used = any(map(_is_ready, survey.tasks))
    return [_comment(survey.seen), _entry(name, value, is_used)]


def _task(task: Proposal, data: str, key: str) -> list[str]:
    value: dict[str, Any] = {"kind": task.kind, "data": data}
    if task.label is not None:
        value["label"] = task.label
    if task.classes is not None:
        value["classes"] = task.classes
    seen = "; ".join(filter(None, (task.seen, _objection(task))))
    return [_comment(seen), _entry(key, value, _is_ready(task))]


def _network(size: int) -> list[str]:
    if size <= 64:
        return [
            "# stem: small keeps the detail of small images; width scales all channel counts",
            "backbone: {name: resnet18, stem: small, width: 0.5}",
        ]
    return [
        "# pretrained: true starts from ImageNet weights, which are downloaded once",
        "backbone: {name: resnet18, pretrained: false}",
    ]


def _methods(tasks: int) -> list[str]:
    if tasks < 2:
        return ["  - single  # one task alone has nothing to share; add a second one to compare"]
    lines = [
        "  - single  # a network per task, which the others are held against",
        "  - hard    # one trunk for all tasks",
        "  - {hard: {filter: true, as: hard_filter}}  # each task gates the trunk's features",
    ]
    if tasks <= STAGES:
        lines.append("  - multi_exit  # tasks with fewer classes leave the trunk earlier")
    return lines


def _training(images: int) -> list[str]:
    batch = 16 if images < 500 else 32 if images < 2000 else 64
    return [
        "train:",
        "  epochs: 30  # passes over the largest data set",
        f"  batch: {batch}",
        "  optimizer: {name: sgd, lr: 0.05, momentum: 0.9}",
        "  schedule: cosine",
        "seeds: 3  # runs of each method; a verdict needs three",
        "on_bad_image: error  # or skip",
    ]


def _entry(name: str, value: dict[str, Any], is_live: bool) -> str:
    from polytask.config.writing import shown  # with pydantic, which a copy does without

    return f"  {'' if is_live else '# '}{shown(name)}: {shown(value)}"


def _comment(text: str) -> str:
    return f"  # {_plain(text)}"


def _quoted(file: Path) -> str:
    return _plain(shlex.quote(str(file)))


def _plain(text: str) -> str:
    """Text for a comment: labels and file names can hold what YAML refuses even there."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _is_ready(task: Proposal) -> bool:
    return not _objection(task)


def _objection(task: Proposal) -> str:
    """Why a task is written as a comment."""
    if task.kind not in registry.names("tasks"):
        return f"this version has no task of kind {task.kind}"
    return task.problem


def _size(survey: Survey) -> int:
    return next((size for size in SIZES if size >= survey.side), SIZES[-1])


def _task_names(tasks: Sequence[tuple[str, Proposal]]) -> list[str]:
    plain = [task.name for _, task in tasks]
    return _distinct([t.name if plain.count(t.name) == 1 else f"{d}_{t.name}" for d, t in tasks])


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    found: list[str] = []
    for name in names:
        chosen, number = name, 2
        while chosen in found:
            chosen, number = f"{name}_{number}", number + 1
        found.append(chosen)
    return found

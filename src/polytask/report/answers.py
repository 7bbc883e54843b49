"""What networks answer to images, for the page: answers beside labels, and the worst of each task.

Of each method the first seed that has pictures is shown.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polytask.report import numbers
from polytask.report.folder import Folder, Run
from polytask.report.records import Answers, Example, TaskAnswer

JPEG = b"\xff\xd8\xff"
MOST_BYTES = 4_000_000  # of pictures; a page with more gets slow on a phone


@dataclass(frozen=True)
class Cell:
    """An image with what is drawn on it and said of it; no picture where nothing can be drawn."""

    uri: str = ""
    lines: tuple[tuple[str, str], ...] = ()


@dataclass
class Seen:
    """An image and its labels, with each method's answers; `of` is the task of a map."""

    place: str
    of: str
    label: Cell
    answers: dict[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Worst:
    """An image that a method is most wrong about; `answer` is empty where none can be drawn."""

    place: str
    loss: str
    label: Cell
    answer: Cell


class Pictures:
    """Reads pictures into the page while there is room; counts those left out."""

    def __init__(self) -> None:
        self.room = MOST_BYTES
        self.left_out = 0

    def uri(self, run: Run, name: str | None) -> str:
        """The picture in the page itself; nothing where there is none, or no room."""
        if name is None:
            return ""
        path = run.folder / "plots" / "answers" / Path(name).name
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if not content.startswith(JPEG) or len(content) > self.room:
            self.left_out += 1
            return ""
        self.room -= len(content)
        return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def shown(folder: Folder, pictures: Pictures) -> list[Seen]:
    """Images spread over the split, each with its labels and the answer of every method."""
    found: dict[tuple[str, str, str], Seen] = {}
    for method, run, answers in _first_runs(folder):
        for example in answers.shown:
            for picture in example.pictures:
                key = (example.data, example.place, picture.of)
                told = _told(example, picture.of)
                if key not in found:
                    lines = tuple((task, answer.label) for task, answer in told.items())
                    label = Cell(pictures.uri(run, picture.label), lines)
                    found[key] = Seen(example.place, picture.of, label)
                lines = tuple((task, answer.answer) for task, answer in told.items())
                found[key].answers[method] = Cell(pictures.uri(run, picture.answer), lines)
    return list(found.values())


def worst(folder: Folder, pictures: Pictures) -> dict[str, dict[str, list[Worst]]]:
    """The images of the highest loss, by task and method."""
    found: dict[str, dict[str, list[Worst]]] = {}
    for method, run, answers in _first_runs(folder):
        for task, examples in answers.worst.items():
            mine = [_worst(run, task, example, pictures) for example in examples]
            found.setdefault(task, {})[method] = mine
    return found


def _worst(run: Run, task: str, example: Example, pictures: Pictures) -> Worst:
    told = example.tasks.get(task, TaskAnswer())
    # A map hides the image: then it is what shows the answer.
    picture = max(example.pictures, key=lambda picture: picture.of == task, default=None)
    label, answer = (picture.label, picture.answer) if picture else (None, None)
    loss = numbers.ABSENT if told.loss is None else f"{told.loss:.3g}"
    return Worst(
        example.place,
        loss,
        Cell(pictures.uri(run, label), (("label", told.label),)),
        Cell(pictures.uri(run, answer), (("answer", told.answer),)),
    )


def _told(example: Example, of: str) -> Mapping[str, TaskAnswer]:
    """What is said below a picture: all tasks below the image itself, one below its map."""
    return {task: told for task, told in example.tasks.items() if of in ("", task)}


def _first_runs(folder: Folder) -> Iterable[tuple[str, Run, Answers]]:
    for method, runs in folder.runs.items():
        run = next((run for run in runs if run.answers), None)
        if run is not None and run.answers is not None:
            yield method, run, run.answers


def colours(folder: Folder) -> dict[str, dict[str, str | None]]:
    """The colour of each class of tasks with masks; nothing for the class that is not drawn."""
    found: dict[str, dict[str, str | None]] = {}
    for _, _, answers in _first_runs(folder):
        found |= answers.colours
    return found


def split_of(folder: Folder) -> str:
    """The split that the images are of, in words."""
    splits = {answers.split for _, _, answers in _first_runs(folder)}
    return "validation" if splits <= {"val"} else " and ".join(sorted(splits))


def file_name(place: str) -> str:
    """The last part of where an image comes from, which is enough to be recognised."""
    return place.replace("\\", "/").rsplit("/", 1)[-1]

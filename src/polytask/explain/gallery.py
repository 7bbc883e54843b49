"""What a trained network answers to scored images: some of them, and those it is most wrong about.

The pictures are of the size at which the network sees its images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polytask.batch import Group, Target, take
from polytask.data.overlay import colour_of
from polytask.data.pipeline import Data
from polytask.data.sheet import as_pixels
from polytask.explain.drawing import MAIN, TRUE, Answer, drawn, in_words
from polytask.tasks.task import Pictures, PretextTask, Task

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN, WORST = 6, 6  # images of a data set; of a task
FILE, PICTURES = "answers.json", "answers"
GAP = 4  # pixels between two pictures in one
DRAWN = ("mask", "depth", "normals")


@dataclass(frozen=True)
class Case:
    """A task's answer to an image [H, W, 3], what would have been right, and the loss."""

    task: str
    data: str
    index: int
    loss: float
    pixels: np.ndarray
    answer: Answer
    label: Answer
    caption: str


@dataclass(frozen=True)
class Played:
    """What a pretext task made of an image, and its answer."""

    task: str
    data: str
    index: int
    pictures: Pictures


class Gallery:
    """Watches the scoring of a split and keeps what people look at."""

    def __init__(self, tasks: Mapping[str, Task], data: Data, split: str) -> None:
        self.tasks, self.data, self.split = tasks, data, split
        self.shown: dict[tuple[str, int], list[Case]] = {}
        for name, own in data.sets.items():
            rows = own.splits[split]
            spread = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)
            self.shown |= {(name, index): [] for index in rows[spread].tolist()}
        self.worst: dict[str, list[Case]] = {name: [] for name in tasks}
        self.made: list[Played] = []

    def see(
        self, name: str, group: Group, target: Target, prediction: Any, loss: Tensor, weight: Tensor
    ) -> None:
        """Keep the images of a batch that are to be shown, or worse than those kept so far."""
        task = self.tasks[name]
        if isinstance(task, PretextTask):
            self._see_pretext(task, group, target, prediction)
            return
        assert task.data is not None
        counted = torch.where(weight > 0, loss / weight.clamp(min=1e-12), -torch.inf).float()
        rows = torch.arange(len(group)) if target.rows is None else target.rows.cpu()
        index = group.index.cpu()[rows].tolist()
        worst = counted.topk(min(WORST, len(counted))).indices.tolist()
        asked = [i for i, number in enumerate(index) if (task.data, number) in self.shown]
        cases = {
            i: self._case(task, group, target, prediction, i, int(rows[i]), float(counted[i]))
            for i in {*worst, *asked}
        }
        kept = [*self.worst[name], *(cases[i] for i in worst if weight[i] > 0)]
        self.worst[name] = nlargest(WORST, kept, key=lambda case: case.loss)
        for i in asked:
            self.shown[task.data, index[i]].append(cases[i])

    def _see_pretext(
        self, task: PretextTask, group: Group, target: Target, prediction: Any
    ) -> None:
        """Keep what a task that makes its own inputs made of the images that are shown."""
        assert task.data is not None
        assert target.value is not None
        for i, index in enumerate(group.index.tolist()):
            if (task.data, index) in self.shown:
                views = group.images[i * group.views : (i + 1) * group.views]
                seen = np.stack(as_pixels(views, self.data.normalisation))
                one = torch.tensor([i], device=group.images.device)
                own, value = take(prediction, one), take(target.value, one)
                found = task.pictures(seen, own, value)
                if found is not None:
                    self.made.append(Played(task.name, task.data, index, found))

    def _case(
        self,
        task: Task,
        group: Group,
        target: Target,
        prediction: Any,
        i: int,
        row: int,
        loss: float,
    ) -> Case:
        (pixels,) = as_pixels(group.images[row : row + 1], self.data.normalisation)
        assert task.data is not None
        assert target.value is not None
        value = take(target.value, torch.tensor([i], device=group.images.device))
        own = take(prediction, torch.tensor([i], device=group.images.device))
        (answer,) = task.read(own, [(pixels.shape[0], pixels.shape[1])])
        (caption,) = task.captions(value)
        place = (task.data, int(group.index[row]))
        return Case(task.name, *place, loss, pixels, answer, _label_of(value), caption)

    def write(self, folder: Path) -> None:
        """Write `answers.json` and the pictures that it names into a run's folder of plots."""
        from polytask.training.checkpoint import write_json

        (folder / PICTURES).mkdir(exist_ok=True)
        album = _Album(folder)
        shown = [self._example(cases, album) for cases in self.shown.values() if cases]
        shown += [self._played(each, album) for each in self.made]
        worst = {
            name: [self._example([case], album) for case in cases]
            for name, cases in self.worst.items()
            if cases
        }
        found = {"split": self.split, "colours": self._colours(), "shown": shown, "worst": worst}
        write_json(folder / FILE, found)

    def _colours(self) -> dict[str, dict[str, str | None]]:
        """Each class of the tasks whose answers are masks, in its colour; the first has none."""
        masks = [name for name, cases in self.worst.items() if cases and "mask" in cases[0].answer]
        return {
            name: {
                label: "#{:02x}{:02x}{:02x}".format(*colour_of(k)) if k else None
                for k, label in enumerate(self.tasks[name].classes)
            }
            for name in masks
        }

    def _played(self, played: Played, album: _Album) -> dict[str, Any]:
        """What the network saw beside what would have been right, and its answer."""
        from PIL import Image

        seen, right, answer = map(Image.fromarray, played.pictures)
        both = Image.new("RGB", (seen.width + right.width + GAP, seen.height), "white")
        both.paste(seen)
        both.paste(right, (seen.width + GAP, 0))
        return {
            "data": played.data,
            "place": self.data.sets[played.data].place(played.index),
            "tasks": {},
            "pictures": [
                {"of": played.task, "label": album.add(both), "answer": album.add(answer)}
            ],
        }

    def _example(self, cases: Sequence[Case], album: _Album) -> dict[str, Any]:
        first = cases[0]
        labels = {case.task: case.label for case in cases}
        answers = {case.task: case.answer for case in cases}
        true, said = drawn(first.pixels, labels, frame=TRUE), drawn(first.pixels, answers, labels)
        is_drawn = any(labels.values())
        return {
            "data": first.data,
            "place": self.data.sets[first.data].place(first.index),
            "tasks": {
                case.task: {
                    "label": case.caption,
                    "answer": in_words(case.answer),
                    "loss": case.loss if math.isfinite(case.loss) else None,
                }
                for case in cases
            },
            "pictures": [
                {
                    "of": name,
                    "label": album.add(picture),
                    "answer": album.add(said[name]) if name != MAIN or is_drawn else None,
                }
                for name, picture in true.items()
            ],
        }


class _Album:
    """Pictures in a folder, numbered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def add(self, picture: Image) -> str:
        name = f"{PICTURES}/{self.count}.jpg"
        self.count += 1
        # Colours at full resolution: frames are a pixel wide.
        picture.save(self.folder / name, quality=88, subsampling=0)
        return name


def _label_of(value: Any) -> Answer:
    """The part of one image's target that can be drawn, as an answer would hold it."""
    if not isinstance(value, dict):
        return {}
    label: dict[str, Any] = {key: value[key][0].cpu().numpy() for key in DRAWN if key in value}
    if "normals" in label:
        label["normals"] = label["normals"].transpose(1, 2, 0)
    if "classes" in value:
        there = value["boxes"][0][value["classes"][0] >= 0]
        label["boxes"] = [{"box": box} for box in there.tolist()]
    elif "boxes" in value:
        label["box"] = value["boxes"][0].tolist()
    return label

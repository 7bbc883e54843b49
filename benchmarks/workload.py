"""What is trained: three tasks of ten classes on pictures of noise, by polytask's own parts."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import in_turn
from polytask import tasks as kinds
from polytask.batch import Batch
from polytask.config.methods import default_entry
from polytask.config.models import Config
from polytask.data.images import ImageSet
from polytask.data.load import load_data
from polytask.data.pipeline import Data
from polytask.data.source import Source
from polytask.phase import Phase, Schedule
from polytask.sharing.build import build_method
from polytask.sharing.method import SharingMethod
from polytask.tasks.box import BoxOptions
from polytask.tasks.classification import ClassificationOptions
from polytask.tasks.segmentation import SegmentationOptions
from polytask.tasks.task import Task, TaskOptions
from polytask.training.compiled import compile_units
from polytask.training.display import Lines
from polytask.training.loop import Loop
from polytask.training.progress import Progress
from polytask.training.world import World

TASKS = ("first", "second", "third")
CLASSES = 10
STEPS = 4  # different batches, which come again and again
EPOCHS = 1000
BOX: dict[str, Any] = {"label": ["x0", "y0", "x1", "y1"], "grid": 2, "hidden": 128}


class Noise(Source):
    """Random pictures with random labels."""

    source: str = "noise"
    count: int
    side: int
    columns: tuple[str, ...] = TASKS
    is_scene: bool = False  # has masks and boxes too

    def read(self, name: str, folder: Path) -> ImageSet:
        """Draw `count` training images, and one each to validate and to test."""
        del folder
        total = self.count + 2
        drawn = np.random.default_rng(0)
        images = drawn.integers(0, 256, (total, self.side, self.side, 3), np.uint8)
        cells = drawn.integers(0, CLASSES, (len(self.columns), total)).tolist()
        bounds = {
            "train": (0, total - 2),
            "val": (total - 2, total - 1),
            "test": (total - 1, total),
        }
        splits = {split: np.arange(*bound) for split, bound in bounds.items()}
        columns = dict(zip(self.columns, cells, strict=True))
        if self.is_scene:
            columns["mask"] = list(drawn.integers(0, 2, images.shape[:3], np.uint8))
            low = drawn.uniform(0, 0.4, (2, total)) * self.side
            high = drawn.uniform(0.6, 1, (2, total)) * self.side
            columns |= dict(zip(BOX["label"], [*low.tolist(), *high.tolist()], strict=True))
        return ImageSet(name, images, columns, splits)


def load(
    data: Mapping[str, Noise],
    home: Mapping[str, str],
    dense: Mapping[str, TaskOptions] | None = None,
    **config: Any,
) -> tuple[Config, dict[str, Task], Data]:
    """Data sets as a run reads them; `home` names the data set of each task.

    Tasks are classifications unless `dense` says otherwise.
    """
    classes = {
        task: ClassificationOptions(kind="classification", data=name, label=task, classes=CLASSES)
        for task, name in home.items()
    }
    made = Config(data=dict(data), tasks={**classes, **(dense or {})}, **config)
    tasks = kinds.build(made.tasks)
    return made, tasks, load_data(made, tasks, seed=0)


@dataclass(frozen=True)
class Turn:
    """Which of a method's phases trains (a joint one of no method's plan by default), in which
    epoch of it, and the pattern of the parameters whose turn it is."""

    phase: str = ""
    epoch: int = 0
    only: str | None = None


ANY = Turn()


@dataclass(frozen=True)
class Training:
    """A method in training, as `polytask train` runs it, and the batches it sees."""

    loop: Loop
    batches: list[Batch]
    only: str | None = None

    def step(self, batch: Batch) -> None:
        """All that a run does with a batch."""
        self.loop.step(batch, self.only)
        self.loop.tick()

    def turns(self) -> Callable[[], object]:
        """A step with the next of the batches at each call."""
        return in_turn(self.step, self.batches)


@dataclass(frozen=True)
class Workload:
    """Images and network: with 1 of `sets` every image has all labels, with 3 one of them.

    With a `decoder` the first task is an outline and the second a box.
    """

    sets: int = 1
    side: int = 64
    batch: int = 32
    width: float = 1.0
    stem: str = "imagenet"
    backbone: str = "resnet18"
    decoder: str = ""

    def training(
        self,
        name: str,
        options: Mapping[str, Any] | None = None,
        norm: str = "mixed",
        balancing: str | Mapping[str, Any] = "equal",
        turn: Turn = ANY,
        device: str = "cpu",
        train: Mapping[str, Any] | None = None,
    ) -> Training:
        """A method of the registry, ready for its first step; phases before are without any.

        `train` overrides how it is trained.
        """
        config, data, method = self.method(name, options, norm, train)
        config = config.model_copy(update={"balancing": balancing})
        world = World.of(config.train.precision, accelerator=device)
        method = method.to(world.device)
        if config.train.channels_last:
            method = method.to(memory_format=torch.channels_last)
        if config.train.compile:
            compile_units(method, config.train.compile, balancing)
        progress = Progress(Lines(io.StringIO()))
        progress.run_started(name, total_steps=1_000_000)

        def after_step(loop: Loop) -> None:
            progress.step(loop.updates, loop.last_losses)

        phases = method.plan(Schedule(EPOCHS)) if turn.phase else [Phase(epochs=EPOCHS)]
        for phase in phases:
            loop = Loop(config, method, data, world, phase, 0, after_step)
            if turn.phase:
                method.on_phase_start(loop)
            if turn.phase in ("", phase.name):
                break
            method.on_phase_end(loop)
        loop.epoch = turn.epoch
        batches = data.epoch(0, tasks=phase.tasks, joint_pace=phase.joint_pace)
        return Training(loop, list(batches), turn.only)

    def method(
        self,
        name: str,
        options: Mapping[str, Any] | None = None,
        norm: str = "mixed",
        train: Mapping[str, Any] | None = None,
    ) -> tuple[Config, Data, SharingMethod]:
        """A method with its initial weights, its config and its data."""
        home = {task: "images" if self.sets == 1 else task for task in TASKS}
        config, tasks, data = load(
            {
                data: Noise(
                    count=STEPS * self.batch // self.sets,
                    side=self.side,
                    columns=tuple(task for task in TASKS if home[task] == data),
                    is_scene=bool(self.decoder),
                )
                for data in dict.fromkeys(home.values())
            },
            home,
            self._dense() if self.decoder else None,
            backbone={"name": self.backbone, "width": self.width, "stem": self.stem},
            train={
                "batch": self.batch,
                "schedule": "constant",
                "optimizer": {"lr": 0.01},
                **(train or {}),
            },
            norm=norm,
        )
        plain = default_entry(name, [])
        chosen = type(plain.options)(**(options or {}))
        entry = plain.model_copy(update={"options": chosen})
        return config, data, build_method(config, entry, tasks, data.streams, data.stream_of, 0)

    def _dense(self) -> dict[str, TaskOptions]:
        outline = SegmentationOptions(
            kind="segmentation", data="images", classes=["this", "that"], decoder=self.decoder
        )
        return {TASKS[0]: outline, TASKS[1]: BoxOptions(kind="box", data="images", **BOX)}

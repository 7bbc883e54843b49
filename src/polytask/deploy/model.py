"""A trained network as a user holds it: from an image to each task's answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from polytask.batch import Input
from polytask.data.decode import read_image
from polytask.data.images import Image
from polytask.data.making import Raw
from polytask.data.prepare import Normalisation, Pixels, coloured, fit, prepare
from polytask.deploy.run_folder import Description, find_run, read_description
from polytask.errors import RunError, unknown
from polytask.tasks.task import PretextTask, Task
from polytask.training.output import CONFIG, DESCRIPTION, WEIGHTS

if TYPE_CHECKING:
    from polytask.config import Config
    from polytask.sharing.method import SharingMethod


def load(run: str | Path, method: str | None = None, seed: int | None = None) -> Model:
    """Load a finished run, or a comparison's: its best method on validation unless one is named.

    A file that `export --shared` wrote is a run, too.

    Weights are safetensors and configs plain YAML: nothing that is loaded can run code.

    Raises:
        RunError: there is no such run, it has not finished, or its files are damaged.
    """
    if Path(run).is_file() and Path(run).suffix == ".safetensors":
        from polytask.deploy.shared import load_shared

        return load_shared(Path(run))
    folder = find_run(Path(run), method, seed)
    model = Model(folder, read_description(folder), _without_pretraining(folder))
    model.load_weights()
    return model


class Model:
    """Every task of a run, each answered by its own path through the network."""

    def __init__(self, folder: Path, description: Description, config: Config) -> None:
        self.folder = folder
        self.method = description.method
        self.seed = description.seed
        self.normalisation: Normalisation = description.normalisation
        self._description = description
        self._config = config
        self.network, self.tasks = _build(folder, config, description)
        self._paths: dict[str, nn.Module] = {}

    @property
    def place(self) -> Path:
        """Where what is made of the model goes by default: the run folder, or a file's folder."""
        return self.folder if self.folder.is_dir() else self.folder.parent

    def load_weights(self) -> None:
        """Give the network the weights of its run.

        Raises:
            RunError: they are damaged, or those of another network.
        """
        from polytask.training.checkpoint import load_weights

        path = self.folder / WEIGHTS
        try:
            load_weights(path, self.network)
        except RuntimeError as error:  # right names, wrong shapes
            raise RunError.at(
                str(path),
                f"does not fit {self.folder / CONFIG}: {str(error).splitlines()[-1].strip()}",
                "Train again with --overwrite.",
            ) from error

    def path(self, task: str) -> nn.Module:
        """The sub-network of one task, in eval mode: images [B, C, H, W] to its prediction."""
        if task not in self.tasks:
            raise RunError(unknown(str(self.folder), "task", task, self.tasks))
        if task not in self._paths:
            self._paths[task] = self.network.path(task)
        return self._paths[task]

    def input_of(self, task: str) -> Input:
        """The channels, height and width of the images that a task's path takes."""
        return self._description.streams[self._description.stream_of[task]]

    def prepare(self, image: str | Image, task: str) -> Tensor:
        """Make an image [C, H, W], resized and normalised as in training.

        Raises:
            DataError: the image cannot be read.
        """
        return self._prepared(_decoded(image), task)

    def _prepared(self, pixels: Pixels, task: str) -> Tensor:
        size = self._sides(task)
        return prepare(pixels, self.input_of(task), self.normalisation, size)

    def _sides(self, task: str) -> tuple[int, int] | None:
        """The height and width that images are brought to first, where the config says so."""
        data, all_sets = self.tasks[task].data, self._config.image_size
        if data is not None:
            return self._config.data[data].sides(all_sets)
        return (all_sets, all_sets) if all_sets else None

    def _inputs(self, pixels: Pixels, task: str) -> Tensor:
        """What the task's path takes of one image: a pretext task makes it, as in scoring."""
        own = self.tasks[task]
        if not isinstance(own, PretextTask):
            return self._prepared(pixels, task)[None]
        size = self._sides(task) or (pixels.shape[0], pixels.shape[1])
        seen = coloured(fit(pixels, [size])[None])
        none = np.zeros(1, np.int64)
        raw = Raw(seen, none, none, 0, none, lambda numbers: seen[numbers], is_training=False)
        images = own.make(raw).images
        return images if images.is_floating_point() else self.normalisation(images)

    def predict(
        self, image: str | Image, tasks: Iterable[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """What each task (all by default) says of an image: a path, a file's bytes, or pixels.

        Pixels are uint8 [H, W] or [H, W, C]. Classification answers with `class`, `probability` and
        `probabilities`, multilabel with `labels` and `probabilities`, segmentation with `mask`, a
        class number a pixel, and `shares`, box with `box`; both refer to the image's own pixels.

        Raises:
            DataError: the image cannot be read.
            RunError: there is no such task.
        """
        answers = {}
        pixels = _decoded(image)
        size = (pixels.shape[0], pixels.shape[1])
        for task in self.tasks if tasks is None else tasks:
            path = self.path(task)
            with torch.inference_mode():
                prediction = path(self._inputs(pixels, task))
            (answers[task],) = self.tasks[task].read(prediction, [size])
        return answers

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:
        yield "run", str(self.folder)
        yield "method", self.method
        yield "seed", self.seed
        yield "tasks", {name: task.kind for name, task in self.tasks.items()}

    def __repr__(self) -> str:
        return f"Model({', '.join(f'{key}={value!r}' for key, value in self.__rich_repr__())})"


def _decoded(image: str | Image) -> Pixels:
    place = str(image) if isinstance(image, str | Path) else "image"
    return read_image(Path(image) if isinstance(image, str) else image, place)


def _without_pretraining(folder: Path) -> Config:
    """The run's config; weights come from the run, so that nothing else needs to be at hand."""
    from polytask.config import read_config

    config = read_config(folder / CONFIG)
    start = {"pretrained": False, "weights": None, "init": None}
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=start)})


def _build(
    folder: Path, config: Config, description: Description
) -> tuple[SharingMethod, dict[str, Task]]:
    from polytask import tasks as kinds
    from polytask.sharing.build import build_method

    tasks = kinds.build(config.tasks)
    if not tasks.keys() == description.tasks.keys() == description.stream_of.keys():
        raise RunError.at(
            str(folder / DESCRIPTION),
            f"describes the tasks {', '.join(description.tasks)}; {CONFIG} has {', '.join(tasks)}.",
            "Train again with --overwrite.",
        )
    for name, task in tasks.items():
        task.classes = list(description.tasks[name].classes)
    network = build_method(
        config,
        config.method(description.method),
        tasks,
        description.streams,
        description.stream_of,
        description.seed,
    )
    if config.train.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network.eval(), tasks

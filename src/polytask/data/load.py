"""From a config to data ready for training: read, split, decode, resize."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from polytask.batch import Input
from polytask.config.augment import Augment
from polytask.config.sampling import Ratios
from polytask.data.dataset import DataSet
from polytask.data.images import ImageSet
from polytask.data.mixing import Ints
from polytask.data.pipeline import Data
from polytask.data.placing import placed
from polytask.data.prepare import CENTRED, IMAGENET, Pixels, Size, coloured
from polytask.data.source import Source
from polytask.data.splits import read_splits
from polytask.data.store import Filled, Store, fill, first_size
from polytask.errors import ConfigError, DataError, Fault, capped, unknown
from polytask.tasks.task import PretextTask

if TYPE_CHECKING:
    from polytask.config.models import Config
    from polytask.tasks.task import Labels, Task

GIB = 1 << 30
FITTED = 2000  # training images that a pretext task may look at before training


@dataclass(frozen=True)
class _Read:
    """A data set before its pixels are read; `size` is that of its images, once resized."""

    source: Source
    tasks: Mapping[str, Task]
    images: ImageSet
    labels: dict[str, Labels]
    splits: dict[str, Ints]
    size: Size
    is_resized: bool


def load_data(
    config: Config, tasks: Mapping[str, Task], seed: int, memory: int | None = None
) -> Data:
    """Read every data set that a task uses.

    Args:
        config: the whole config; `data`, `mixing`, `norm`, `image_size` and `on_bad_image` count.
        tasks: by name; reading labels fixes their classes.
        seed: which images a fraction takes, and all orders and changes.
        memory: bytes of decoded images to keep, `train.memory` by default; data sets beyond it are
            read when drawn.

    Raises:
        UserError: the faults of all data sets at once.
    """
    if memory is None:
        memory = int(config.train.memory * GIB)
    with _all_faults(config) as faults:
        faults += [
            Fault(
                f"tasks.{name}.data",
                "got nothing; expected a data set.",
                "Without data a task serves `polytask cost` alone.",
            )
            for name, task in tasks.items()
            if task.data is None
        ]
        if isinstance(config.sampling, Ratios):
            faults += [
                unknown(config.place("sampling", "ratios", name), "data set", name, config.data)
                for name in config.sampling.ratios
                if name not in config.data
            ]
        read = {}
        for name, source in config.data.items():
            mine = {task: tasks[task] for task in tasks if tasks[task].data == name}
            if mine:
                with _gathered(faults):
                    read[name] = _read(config, name, source, mine, seed)
    if config.mixing == "integrated" and config.train.batch < len(read):
        raise ConfigError.at(
            config.place("train", "batch"),
            f"got {config.train.batch}; a batch holds an image of each of {len(read)} data sets.",
            f"Set train.batch to {len(read)} or more.",
        )
    union = (
        max((r.size[0] for r in read.values()), default=0),
        max((r.size[1] for r in read.values()), default=0),
    )
    sets, skipped, left = {}, {}, memory
    with _all_faults(config) as faults:
        faults += _disagreements(config, read)
    with _all_faults(config) as faults:
        for name, this in read.items():
            size = union if config.mixing == "integrated" else this.size
            used = np.unique(np.concatenate(list(this.splits.values())))
            filled = fill(this.images, used, (this.size, size), left, config.train.workers)
            left -= filled.store.bytes
            with _gathered(faults):
                _check(config, name, this, filled)
                sets[name] = _finish(config, name, this, filled, size)
                skipped[name] = [str(fault) for fault in filled.faults.values()]
    trained = config.backbone.pretrained or config.backbone.weights is not None
    return Data(
        sets,
        batch=config.train.batch,
        seed=seed,
        mixing=config.mixing,
        norm=config.norm,
        normalisation=IMAGENET if trained else CENTRED,
        memory=memory,
        sampling=config.sampling,
        skipped=skipped,
    )


@contextmanager
def _all_faults(config: Config) -> Iterator[list[Fault]]:
    """Raise what was gathered inside, all at once."""
    faults: list[Fault] = []
    yield faults
    if faults:
        raise DataError(placed(config, faults))


@contextmanager
def _gathered(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        faults += error.faults


def _read(config: Config, name: str, source: Source, tasks: Mapping[str, Task], seed: int) -> _Read:
    images = source.load(name, config.folder)
    labels = {}
    with _all_faults(config) as faults:
        for task_name, task in tasks.items():
            with _gathered(faults):
                labels[task_name] = task.read_labels(images)
    classes = {task_name: task.classes for task_name, task in tasks.items()}
    splits = read_splits(images, source, labels, classes, seed)
    sides = source.sides(config.image_size)
    used = np.unique(np.concatenate(list(splits.values())))
    size = sides or first_size(images, used)
    return _Read(source, tasks, images, labels, splits, size, is_resized=sides is not None)


def _check(config: Config, name: str, read: _Read, filled: Filled) -> None:
    faults: list[Fault] = []
    if config.on_bad_image == "error":
        faults += capped(list(filled.faults.values()))
    elif all(i in filled.faults for i in read.splits["train"].tolist()):
        faults.append(Fault(config.place("data", name), "no training image can be read."))
    if not read.is_resized and read.images.sizes is None:
        faults += size_faults(name, filled.sizes[filled.sizes.any(axis=1)])
    if faults:
        raise DataError(faults)


def size_faults(name: str, sizes: Ints) -> list[Fault]:
    """The fault of images of several (height, width), [N, 2], where no option resizes them."""
    found = np.unique(sizes, axis=0).tolist()
    if len(found) < 2:
        return []
    (height, width), (most_height, most_width) = found[0], found[-1]
    return [
        Fault(
            f"data.{name}",
            f"the images have {len(found)} sizes, from {width} × {height} to "
            f"{most_width} × {most_height} pixels, and nothing says which the network gets.",
            f"Set data.{name}.size, or image_size for all data sets.",
        )
    ]


def _augments(read: _Read) -> dict[str, Augment]:
    """The random changes of tasks that have their own."""
    own = {name: task.options.augment for name, task in read.tasks.items()}
    return {name: augment for name, augment in own.items() if augment is not None}


def _disagreements(config: Config, read: Mapping[str, _Read]) -> list[Fault]:
    """Faults of tasks that want one image changed in different ways."""
    if config.mixing == "multi_input":
        return []
    faults = []
    for name, this in read.items():
        own = _augments(this)
        wanted = [own.get(task, this.source.augment) for task in this.tasks]
        faults += [
            Fault(
                f"tasks.{task}.augment",
                f"differs from another task's; an image of {name} serves all of them at once.",
                "Give each task of the data set the same, or set mixing: multi_input.",
            )
            for task, augment in own.items()
            if any(other != augment for other in wanted)
        ]
    return faults


def _finish(config: Config, name: str, read: _Read, filled: Filled, size: Size) -> DataSet:
    bad = sorted(filled.faults)
    splits = {split: np.setdiff1d(index, bad) for split, index in read.splits.items()}
    images = replace(read.images, splits=splits)
    labels, makers = {}, {}
    with _all_faults(config) as faults:
        for task_name, task in read.tasks.items():
            with _gathered(faults):
                labels[task_name] = task.fit_labels(
                    images, read.labels[task_name], filled.sizes, size
                )
            if isinstance(task, PretextTask):
                makers[task_name] = task
                task.fit_pixels(_some_of(filled.store, splits["train"]))
    return DataSet(
        name,
        store=filled.store,
        pixels_digest=filled.digest,
        size=read.size,
        input=Input(3, *size),
        augment=read.source.augment,
        splits=splits,
        labels=labels,
        makers=makers,
        augments=_augments(read),
        places=read.images.places,
    )


def _some_of(store: Store, index: Ints) -> Pixels:
    """At most `FITTED` images, evenly spread, with three channels."""
    spread = index[:: max(1, -(-len(index) // FITTED))]
    return coloured(store.take(spread))

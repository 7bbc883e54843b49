"""Small data sets made in memory, whose pixels tell which image they are."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict

from polytask.config.models import Config
from polytask.data.images import ImageSet
from polytask.data.load import load_data
from polytask.data.source import Source
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.task import Task


class Made(Source):
    """A source that holds what it reads."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    source: str = "made"
    images: Any
    columns: dict[str, list[Any]]
    splits: dict[str, Any]

    def read(self, name: str, folder: Path) -> ImageSet:
        splits = {split: np.asarray(rows) for split, rows in self.splits.items()}
        return ImageSet(name, self.images, self.columns, splits)


def numbered(
    train: int, side: int = 4, channels: int = 1, classes: int = 2, shift: int = 0, **options: Any
) -> Made:
    """Images whose every pixel is their number, `train` to train on, 3 to validate and 5 to test.

    The column `label` is (number + shift) modulo the classes.
    """
    count = train + 8
    numbers = np.arange(count, dtype=np.uint8)
    return Made(
        images=np.broadcast_to(numbers[:, None, None, None], (count, side, side, channels)),
        columns={
            "label": [f"c{(i + shift) % classes}" for i in range(count)],
            **options.pop("columns", {}),
        },
        splits={
            "train": range(train),
            "val": range(train, train + 3),
            "test": range(train + 3, count),
        },
        **options,
    )


def noisy(made: Made, channels: int = 3) -> Made:
    """The same set with random pixels, so that crops and mirrored images differ."""
    count, size = made.images.shape[:2]
    pixels = np.random.default_rng(count).integers(0, 256, (count, size, size, channels), np.uint8)
    return made.model_copy(update={"images": pixels})


def build(
    sets: Mapping[str, Source],
    tasks: Mapping[str, tuple[str, str]],
    more: Mapping[str, Task] | None = None,
    seed: int = 0,
    memory: int | None = None,
    batch: int = 8,
    **config: Any,
) -> Any:
    """Load data sets by name, with classification tasks `name: (data set, column)` and `more`."""
    made: dict[str, Task] = {
        name: Classification(
            name, ClassificationOptions(kind="classification", data=data, label=label)
        )
        for name, (data, label) in tasks.items()
    }
    return load_data(
        Config(data=sets, train={"batch": batch}, **config), {**made, **(more or {})}, seed, memory
    )


@pytest.fixture(scope="session")
def make():
    """The functions of this file, for tests and for hypothesis."""
    return SimpleNamespace(build=build, numbered=numbered, noisy=noisy)

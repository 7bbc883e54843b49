"""A data set ready for training: pixels in a store, labels as tensors, splits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polytask.batch import Input, Target, Value, take
from polytask.config.augment import Augment
from polytask.data.augment import Change
from polytask.data.making import Maker
from polytask.data.mixing import Ints
from polytask.data.prepare import Size
from polytask.data.splits import joint_strata, nested_fraction
from polytask.data.store import Store
from polytask.randomness import stable_hash

if TYPE_CHECKING:
    from polytask.tasks.task import Labels


@dataclass(frozen=True)
class DataSet:
    """Images, labels of each task (in the config's order) and splits of one data set.

    `splits` hold the images in use: the fraction of `train`, without images that were skipped.
    `size` (height, width) is that of its own images, which the store resized from there to `input`,
    what the network sees; `pixels_digest` tells the pixels of the files. `makers` are the tasks
    that make inputs and targets of their own from the images; `places` is where each comes from.
    """

    name: str
    store: Store
    pixels_digest: str
    size: Size
    input: Input
    augment: Augment
    splits: Mapping[str, Ints]
    labels: Mapping[str, Labels]
    makers: Mapping[str, Maker] = field(default_factory=dict)
    augments: Mapping[str, Augment] = field(default_factory=dict)
    places: Sequence[str] = ()

    def place(self, i: int) -> str:
        """Where image `i` comes from."""
        return self.places[i] if self.places else f"{self.name}[{i}]"

    @cached_property
    def values(self) -> dict[str, Value]:
        """The labels of each task as tensors, a row an image."""
        return {task: _as_value(labels.value) for task, labels in self.labels.items()}

    def pool(
        self, tasks: Collection[str], seed: int, part: tuple[float, float] = (0.0, 1.0)
    ) -> Ints:
        """Training images with a label of any of the tasks, ascending.

        `part` keeps [start, stop) of the training images, in an order of each class that depends on
        the seed and the data set's name alone.
        """
        train = self._part(seed, part)
        labelled = np.zeros(len(train), dtype=bool)
        for task in tasks:
            labelled |= self.labels[task].present[train]
        return train[labelled]

    def augment_of(self, tasks: Collection[str]) -> Augment:
        """The random changes of images drawn for these tasks, which agree on them.

        `augments` are those of tasks that have their own.
        """
        return next((self.augments[task] for task in tasks if task in self.augments), self.augment)

    def _part(self, seed: int, part: tuple[float, float]) -> Ints:
        train = self.splits["train"]
        if part == (0.0, 1.0):
            return train
        labels = list(self.labels.values())
        strata = joint_strata(len(labels[0].present), labels)[train]
        start, stop = (self._first(strata, share, seed) for share in part)
        return train[np.setdiff1d(stop, start)]

    def _first(self, strata: Ints, share: float, seed: int) -> Ints:
        if share == 0.0:
            return np.arange(0)
        return nested_fraction(strata, share, stable_hash(seed, self.name, "part"))

    def targets(
        self, tasks: Collection[str], index: Ints, offset: int = 0, change: Change | None = None
    ) -> dict[str, Target]:
        """The labels of the images numbered `index`, which stand at `offset` in their group.

        A task without a label among them is left out. Masks and boxes follow the images' change.
        """
        targets = {}
        for task in tasks:
            rows = np.flatnonzero(self.labels[task].present[index])
            if not len(rows):
                continue
            value = take(self.values[task], torch.from_numpy(index[rows]))
            if change is not None:
                value = change.take(rows).target(value, self.input.height, self.input.width)
            targets[task] = Target(_widened(value), torch.from_numpy(rows + offset))
        return targets

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the pixels, their size in the network, the labels and the splits in use."""
        digest = hashlib.blake2b(digest_size=16)
        _feed(digest, [self.pixels_digest, self.size, (self.input.height, self.input.width)])
        used = np.unique(np.concatenate(list(self.splits.values())))
        for split, index in sorted(self.splits.items()):
            _feed(digest, [split, index])
        for task, labels in self.labels.items():
            index = used[labels.present[used]]
            _feed(digest, [task, index, take(self.values[task], torch.from_numpy(index))])
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, Any]:
        """Images and labels of each task in each split."""
        return {
            split: {
                "images": len(index),
                "labels": {
                    t: int(labels.present[index].sum()) for t, labels in self.labels.items()
                },
            }
            for split, index in self.splits.items()
        }


def _as_value(value: Any) -> Value:
    """Labels of a whole data set as a tensor, a dict of tensors or a list."""
    if isinstance(value, dict):
        return {key: _as_tensor(np.asarray(item)) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype != object:
        return _as_tensor(value)
    return value if isinstance(value, Tensor) else list(value)


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint8:  # masks stay small here; a batch of them is widened
        return torch.from_numpy(array)
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def _widened(value: Value) -> Value:
    """Numbers as float32 and int64, which is what losses take."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value.long()
    if isinstance(value, dict):
        return {
            key: item.float() if item.is_floating_point() else item.long()
            for key, item in value.items()
        }
    return value


def _feed(digest: Any, value: Any) -> None:
    """Hash a value with its type and shape, so that no two values look alike."""
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value))
    elif isinstance(value, Mapping):
        _feed(digest, [part for item in value.items() for part in item])
    elif isinstance(value, (list, tuple, np.ndarray)):
        digest.update(f"[{len(value)}]".encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(f"{type(value).__name__}:{value!r};".encode())

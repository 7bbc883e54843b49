"""What flows from data to model to loss: a batch is a list of groups of images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

Value: TypeAlias = "Tensor | dict[str, Tensor] | list[Any]"


def take(value: Value, rows: Tensor) -> Value:
    """The given rows of a tensor, of every tensor of a dict, or of a list."""
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, dict):
        return {key: tensor[rows] for key, tensor in value.items()}
    return [value[i] for i in rows.tolist()]


def by_sample(tensor: Tensor, views: int) -> Tensor:
    """What is there for each view [B·V, …] as [B, V, …]; for one view as it is."""
    return tensor if views == 1 else tensor.reshape(-1, views, *tensor.shape[1:])


def moved(value: Any, device: torch.device | str) -> Any:
    """The value with its tensors, also those in dicts and lists, on a device."""
    if isinstance(value, Tensor):
        # Who reads on the CPU does not wait for what is still on its way there.
        return value.to(device, non_blocking=torch.device(device).type != "cpu")
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [moved(item, device) for item in value]
    return value


@dataclass(frozen=True)
class Input:
    """The images of a stream as the network sees them."""

    channels: int
    height: int
    width: int


@dataclass
class Target:
    """The labels of one task in a group.

    `rows` are the positions of the labelled images in the group, ascending, `None` for all of
    them; `value` is what the task's loss takes, its first axis following `rows` (`None` when only
    predictions are wanted).
    """

    value: Value | None = None
    rows: Tensor | None = None

    def labelled(self, each: Tensor) -> Tensor:
        """Of what there is for every image of the group, that of the labelled ones."""
        return each if self.rows is None else each[self.rows]


@dataclass
class Group:
    """Images that go through the network together.

    `images` is [B·V, C, H, W], V views an image; `index` [B] is each sample's stable number in its
    data set; `stream` names the input (data set and preparation).
    """

    images: Tensor
    index: Tensor
    stream: str
    targets: dict[str, Target] = field(default_factory=dict)
    views: int = 1

    def __len__(self) -> int:
        return len(self.images) // self.views

    def to(self, device: torch.device | str) -> Group:
        """The same group on another device."""
        targets = {
            task: Target(moved(t.value, device), moved(t.rows, device))
            for task, t in self.targets.items()
        }
        return Group(
            moved(self.images, device), moved(self.index, device), self.stream, targets, self.views
        )


@dataclass
class Batch:
    """The groups of one step; a task has at most one target in a batch."""

    groups: list[Group]

    def __iter__(self) -> Iterator[tuple[str, Group, Target]]:
        """Every (task, group, target) of the batch."""
        for group in self.groups:
            for task, target in group.targets.items():
                yield task, group, target

    @property
    def tasks(self) -> list[str]:
        """The tasks present in this batch."""
        return [task for task, _, _ in self]

    @property
    def images(self) -> int:
        """How many samples the batch holds."""
        return sum(map(len, self.groups))

    def of(self, tasks: Collection[str]) -> Batch:
        """The groups that have a target of these tasks, with no other targets."""
        groups = []
        for group in self.groups:
            targets = {task: t for task, t in group.targets.items() if task in tasks}
            if targets:
                groups.append(replace(group, targets=targets))
        return Batch(groups)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch([group.to(device) for group in self.groups])

    @classmethod
    def single(cls, images: Tensor, stream: str, targets: Mapping[str, Target]) -> Batch:
        """One group of images numbered from 0: what predicting and measuring cost need."""
        return cls([Group(images, torch.arange(len(images)), stream, dict(targets))])

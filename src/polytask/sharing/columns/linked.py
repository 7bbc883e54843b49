"""Columns whose maps are mixed by links after some of their units."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from polytask.batch import Batch
from polytask.phase import ParameterGroup, Phase, Schedule
from polytask.sharing.columns import Columns, Feed
from polytask.sharing.columns.link import Join, Link
from polytask.sharing.method import MethodOptions, Setting


class LinkedOptions(MethodOptions):
    """Where links stand, what they are fed and how fast they learn."""

    where: Literal["stages"] | list[str] = Field(
        "stages", description="units or stages to link after; stages: after every one"
    )
    feed: Literal["same", "paired"] = Field(
        "same",
        description="same: a task's images go through every column; paired: in training every "
        "column reads its own task's images, mixed by their place in the batch",
    )
    tied: str | None = Field(
        None, description="unit or stage up to which all columns are one; none: every one apart"
    )
    lr: float = Field(1.0, gt=0, description="factor of the links' learning rate")

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if self.tied and self.feed == "paired":
            raise ValueError("expected feed: same with tied; paired columns read other images")
        return self


class LinkedColumns(Columns):
    """One link after each of the units `where`; it reads and writes every column that a task runs
    so far: in a decoder, those of the tasks that answer for every pixel.

    Where tasks have images of their own, a link mixes maps of one image (`feed: same`: as many
    passes as columns for every image, in training as in use) or of images that happen to stand at
    the same place of their batches (`feed: paired`: one pass an image in training; in use every
    column still reads the task's image). The order of images is drawn anew every epoch, and with it
    the pairs.
    """

    Options = LinkedOptions
    options: LinkedOptions

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        inputs = {stream: setting.streams[stream] for stream in setting.stream_of.values()}
        if len({size.channels for size in inputs.values()}) > 1:
            return "its columns read the images of every task, which must have as many channels"
        if not isinstance(options, LinkedOptions) or options.feed != "paired":
            return None
        sizes = {f"{name} {size.height}×{size.width}" for name, size in inputs.items()}
        if len(set(inputs.values())) > 1:
            return (
                f"feed: paired mixes maps of different images, which must have one size; got "
                f"{', '.join(sorted(sizes))}. Set a common size, or feed: same"
            )
        views = {name: task.views for name, task in setting.tasks.items()}
        if len(set(views.values())) > 1:
            return (
                f"feed: paired mixes maps of different images, which must have as many views; got "
                f"{', '.join(f'{name} {count}' for name, count in views.items())}. Set feed: same"
            )
        return None

    @abstractmethod
    def make_link(self, channels: int, columns: Sequence[str]) -> Link:
        """A link of the columns' maps with that many channels."""

    def link_name(self, place: str) -> str:
        """The name of the link after unit `place`; places of one name have one link, and the same
        columns."""
        return place.replace(".", "_")

    def listed(self) -> list[str]:
        """The units that `where` names, in order."""
        where = self.options.where
        found = set(self.frame.stages.values())
        if where != "stages":
            found = {self.frame.resolve(name, "where") for name in where}
        return [name for name in self.names if name in found]

    def places(self) -> list[str]:
        """The units that links stand after, in order: where columns have something to mix."""
        apart = self.names[max(0, len(self.tied) - 1) :]
        return [name for name in self.listed() if name in apart and self.columns_at(name)]

    def columns_at(self, place: str) -> tuple[str, ...]:
        """The columns whose own tasks run a unit."""
        at = self.frame.position(place)
        ends = {t: self.frame.position(self.frame.end(x.is_dense)) for t, x in self.tasks.items()}
        reaching = {self.column_of(task) for task, end in ends.items() if end >= at}
        return tuple(column for column in self.columns if column in reaching)

    def tied_units(self) -> list[str]:
        if self.options.tied is None:
            return []
        return self.names[
            : self.frame.names.index(self.frame.resolve(self.options.tied, "tied")) + 1
        ]

    def make_links(self) -> list[Join]:
        joins = []
        for place in self.places():
            name, columns = self.link_name(place), self.columns_at(place)
            if len(columns) == 1 and len(self.columns) > 1:
                continue  # the one dense task has the decoder for itself
            if name not in self.links:
                with self.setting.seeded("link", name):
                    channels = self.frame.info[place].channels
                    self.links[name] = self.make_link(channels, columns)
            joins.append(Join(place, name, columns, columns))
        return joins

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        """Paired columns see one stream each in training, and use its statistics for all."""
        return () if self.options.feed == "paired" else streams

    def feeds(self, batch: Batch) -> Iterator[Feed]:
        is_paired = self.training and self.options.feed == "paired"
        own = dict(_own_images(batch)) if is_paired else {}
        if not own:
            yield from super().feeds(batch)
            return
        longest = max(own.values(), key=len)
        images = {}
        for column in self.columns:
            read = own.get(column, longest)  # a task without images here lends its column
            turns = torch.arange(len(longest), device=read.device) % len(read)
            images[column] = read[turns].flatten(0, 1)
        rows: dict[str, Tensor | None] = {}
        for task in self.tasks:
            if task in batch.tasks:
                count = len(own.get(task, ()))
                is_whole = count == len(longest)
                rows[task] = None if is_whole else torch.arange(count, device=longest.device)
        yield Feed(images, batch.groups[0].stream, rows, longest.shape[1])

    def how(self) -> dict[str, Any]:
        return {"feed": self.options.feed}

    def plan(self, schedule: Schedule) -> list[Phase]:
        groups = (ParameterGroup(r"^links\.", lr=self.options.lr),)
        return [Phase(epochs=schedule.epochs, groups=groups)]


def _own_images(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """The labelled images [R, V, C, H, W] of every task that has any."""
    for task, group, target in batch:
        images = group.images.view(-1, group.views, *group.images.shape[1:])
        images = images if target.rows is None else images[target.rows]
        if len(images):
            yield task, images

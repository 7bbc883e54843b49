"""Columns whose maps are mixed by links after some of their units."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

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
    lr: float = Field(1.0, gt=0, description="factor of the links' learning rate")


class LinkedColumns(Columns):
    """One link after each of the units `where`; it reads and writes every column.

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
        sizes = {f"{name} {size.height}×{size.width}" for name, size in inputs.items()}
        is_paired = isinstance(options, LinkedOptions) and options.feed == "paired"
        if is_paired and len(set(inputs.values())) > 1:
            return (
                f"feed: paired mixes maps of different images, which must have one size; got "
                f"{', '.join(sorted(sizes))}. Set a common size, or feed: same"
            )
        return None

    @abstractmethod
    def make_link(self, channels: int) -> Link:
        """A link of maps with that many channels."""

    def link_name(self, place: str) -> str:
        """The name of the link after unit `place`; places of one name have one link."""
        return place.replace(".", "_")

    def places(self) -> list[str]:
        """The units that links stand after, in order."""
        column = self.column(next(iter(self.columns)))
        where = self.options.where
        found = set(column.stages.values())
        if where != "stages":
            found = {column.resolve(name, "where") for name in where}
        return [name for name in self.names if name in found]

    def make_links(self) -> list[Join]:
        info = self.column(next(iter(self.columns))).info
        columns = tuple(self.columns)
        joins = []
        for place in self.places():
            name = self.link_name(place)
            if name not in self.links:
                with self.setting.seeded("link", name):
                    self.links[name] = self.make_link(info[place].channels)
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

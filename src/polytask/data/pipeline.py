"""The stream of batches that training and scoring read (DESIGN, How data flows)."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polytask.batch import Batch, Group, Input, Target
from polytask.config.sampling import Balanced, Sampling
from polytask.data.augment import Change, draw_change
from polytask.data.dataset import DataSet
from polytask.data.making import Pixels, Raw, own_stream
from polytask.data.mixing import Draws, Feed, Ints, Mix, mixed
from polytask.data.prefetch import AHEAD, FAR, prefetched
from polytask.data.prepare import CENTRED, Normalisation, coloured
from polytask.data.store import Store
from polytask.randomness import stable_hash

Part = tuple[float, float]
WHOLE: Part = (0.0, 1.0)
BALANCED = Balanced()
TOGETHER = "all"  # the stream of data sets that are normalised together


@dataclass(frozen=True)
class _Portion:
    """Images of one data set, and the tasks that they serve.

    `passes` say how often each was drawn before in the epoch, `key` is what makers draw from.
    """

    data: DataSet
    tasks: Collection[str]
    index: Ints
    passes: Ints
    key: int
    change: Change | None = None

    @property
    def labelled(self) -> list[str]:
        """The tasks that read labels."""
        return [task for task in self.tasks if task not in self.data.makers]

    def pixels(self) -> Pixels:
        """The images [B, C, H, W], changed as training changes them."""
        pixels = self.data.store.take(self.index)
        return pixels if self.change is None else self.change.images(pixels)


def _kept(store: Store) -> str:
    """Where images wait to be drawn, in the words of the log."""
    if store.bytes:
        return "memory"
    return "decoded when drawn" if store.chunk_of is None else "read in chunks"


class Data:
    """Every data set of a run, and the batches made of them.

    - `mixing` integrated: a batch holds equally many images of each data set (or what `sampling`
      says); one group of all with `norm` mixed (stream `all`), one group per data set with per_data
      (stream: its name).
    - `mixing` multi_input: a batch holds `batch` images of each task, labelled for it, in a group
      of its own (stream: the data set's name).

    A pretext task has a group and a stream of its own in any case: it makes its own inputs.

    What a batch holds depends on the seed, the data sets' names, the epoch and the step alone.
    """

    def __init__(
        self,
        sets: Mapping[str, DataSet],
        batch: int,
        seed: int,
        mixing: Literal["integrated", "multi_input"] = "integrated",
        norm: Literal["mixed", "per_data"] = "mixed",
        normalisation: Normalisation = CENTRED,
        memory: int = 0,
        sampling: Sampling = BALANCED,
        skipped: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.sets = dict(sets)
        self.batch, self.seed, self.mixing = batch, seed, mixing
        self.together = mixing == "integrated" and norm == "mixed"
        self.normalisation = normalisation
        self.memory = memory
        self.sampling = sampling
        self.skipped = dict(skipped or {})
        self.waited = 0.0
        self.data_of = {task: name for name, data in self.sets.items() for task in data.labels}
        self.stream_of = {task: self._stream(d, task) for task, d in self.data_of.items()}

    def _stream(self, data: str, task: str) -> str:
        if task in self.sets[data].makers:
            return own_stream(data, task)
        return TOGETHER if self.together else data

    @property
    def streams(self) -> dict[str, Input]:
        """The input of each stream."""
        found = {}
        for task, stream in self.stream_of.items():
            data = self.sets[self.data_of[task]]
            maker = data.makers.get(task)
            found[stream] = maker.input(data.input) if maker is not None else data.input
        return found

    @property
    def samples(self) -> dict[str, int]:
        """Training images of each data set that have a label."""
        return {name: len(d.pool(d.labels, self.seed)) for name, d in self.sets.items()}

    @property
    def fingerprint(self) -> dict[str, str]:
        """A hash of each data set's pixels, labels and splits."""
        return {name: data.fingerprint for name, data in self.sets.items()}

    @property
    def counts(self) -> dict[str, Any]:
        """Images and labels by data set, split and task."""
        return {name: data.counts for name, data in self.sets.items()}

    def describe(self) -> dict[str, Any]:
        """What the log and the report say of the data; JSON-able."""
        return {
            "datasets": {
                name: {
                    "splits": data.counts,
                    "input": [data.input.channels, data.input.height, data.input.width],
                    "size": list(data.size),
                    "store": _kept(data.store),
                    "bytes": data.store.bytes,
                    "fingerprint": data.fingerprint,
                    "skipped": list(self.skipped.get(name, ())),
                }
                for name, data in self.sets.items()
            },
            "memory_limit_bytes": self.memory,
            "normalisation": {"mean": self.normalisation.mean, "std": self.normalisation.std},
        }

    def images(self, dataset: str, split: str, positions: Sequence[int] | Ints) -> Tensor:
        """Stored images [B, C, H, W], uint8, by their positions in a split."""
        data = self.sets[dataset]
        return torch.from_numpy(data.store.take(data.splits[split][positions]))

    def mix(
        self,
        tasks: Collection[str] | None = None,
        part: Part = WHOLE,
        joint_pace: bool = False,
    ) -> Mix:
        """What an epoch of the given tasks (all by default) draws from."""
        wanted = set(self.data_of if tasks is None else tasks)
        drawing = set(self.data_of) if joint_pace else wanted
        feeds = []
        for name, data in self.sets.items():
            mine = tuple(t for t in data.labels if t in drawing)
            for group in [mine] if self.mixing == "integrated" else [(t,) for t in mine]:
                labelled = tuple(t for t in group if t in wanted)
                if labelled:
                    pool = data.pool(group, self.seed, part)
                    feeds.append(Feed(name, labelled, pool, data.store.chunk_of))
        feeds = [feed for feed in feeds if len(feed.pool)]
        if joint_pace:
            whole = self.mix()
            length_of = {self._key(f): n for f, n in zip(whole.feeds, whole.lengths, strict=True)}
            return Mix(feeds, [length_of[self._key(feed)] for feed in feeds], whole.steps)
        weights = self.sampling.weights([(feed.data, len(feed.pool)) for feed in feeds])
        return mixed(feeds, weights, self.batch, together=self.mixing == "integrated")

    def _key(self, feed: Feed) -> tuple[str, ...]:
        """What tells a feed from the others of an epoch, whichever tasks are wanted of it."""
        return (feed.data,) if self.mixing == "integrated" else (feed.data, *feed.tasks)

    def steps(
        self,
        tasks: Collection[str] | None = None,
        part: Part = WHOLE,
        joint_pace: bool = False,
    ) -> int:
        """Steps of an epoch of the given tasks (all by default)."""
        return self.mix(tasks, part, joint_pace).steps

    def epoch(
        self,
        epoch: int,
        *,
        tasks: Collection[str] | None = None,
        part: Part = WHOLE,
        joint_pace: bool = False,
        start: int = 0,
        only: Collection[str] | None = None,
    ) -> Generator[Batch, None, None]:
        """The training batches of an epoch from step `start`, each made while the last is in use.

        Only data sets of the given `tasks` (all by default) take part, and only those tasks have
        targets. `part`: the share of the training images, [start, stop) of a fixed order. With
        `joint_pace` an epoch has the steps, and a step the images of each data set, that it would
        have with all tasks and all images: without a `part` they are the very same images. Inputs
        that a task makes itself are left out where `only` names other tasks.
        """
        mix = self.mix(tasks, part, joint_pace)
        draws = [mix.draws(k, self.seed, epoch) for k in range(len(mix.feeds))]

        def make(step: int) -> Batch:
            turns = [(feed, draws[k][mix.turn(k, step)]) for k, feed in enumerate(mix.feeds)]
            return self._join([self._drawn(f, d, epoch) for f, d in turns if len(d)], only)

        return prefetched(make, range(start, mix.steps), self._wait, self._ahead)

    def scoring(
        self, split: str, batch: int = 256, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Every image of a split, in order, unchanged, one data set at a time; of several processes
        each gets every `world`-th batch.

        What pretext tasks make of an image is then the same for every run and seed.
        """
        portions = [
            _Portion(data, data.labels, rows, np.zeros_like(rows), stable_hash(name, split))
            for name, data in self.sets.items()
            for first in range(0, len(data.splits[split]), batch)
            for rows in [data.splits[split][first : first + batch]]
        ][rank::world]

        def make(step: int) -> Batch:
            return self._join([portions[step]])

        return prefetched(make, range(len(portions)), self._wait, self._ahead)

    @property
    def _ahead(self) -> int:
        """Batches to make before they are asked for."""
        return AHEAD if all(data.store.bytes for data in self.sets.values()) else FAR

    def _wait(self, seconds: float) -> None:
        self.waited += seconds

    def _drawn(self, feed: Feed, draws: Draws, epoch: int) -> _Portion:
        data = self.sets[feed.data]
        key = stable_hash(self.seed, feed.data, "augment", epoch)
        size = (data.input.height, data.input.width)
        change = draw_change(data.augment_of(feed.tasks), key, draws.index, draws.passes, size)
        own = stable_hash(self.seed, feed.data, "make", epoch)
        return _Portion(data, feed.tasks, draws.index, draws.passes, own, change)

    def _join(self, portions: list[_Portion], only: Collection[str] | None = None) -> Batch:
        labelled = [p for p in portions if p.labelled]
        if self.together and labelled:
            groups = [self._group(TOGETHER, labelled)]
        else:
            groups = [self._group(p.data.name, [p]) for p in labelled]
        groups += [
            self._made(p, task)
            for p in portions
            for task in p.tasks
            if task in p.data.makers and (only is None or task in only)
        ]
        return Batch(groups)

    def _made(self, portion: _Portion, task: str) -> Group:
        """The group of a task that makes its own inputs."""
        data, maker = portion.data, portion.data.makers[task]
        raw = Raw(
            coloured(portion.pixels()),
            portion.index,
            portion.passes,
            stable_hash(portion.key, task),
            data.splits["train"],
            lambda numbers: coloured(data.store.take(numbers)),
            is_training=portion.change is not None,
        )
        made = maker.make(raw)
        images = made.images
        if not images.is_floating_point():
            images = self.normalisation(images)
        index = torch.from_numpy(portion.index)
        target = Target(made.target)
        return Group(images, index, own_stream(data.name, task), {task: target}, maker.views)

    def _group(self, stream: str, portions: list[_Portion]) -> Group:
        seen = portions[0].data.input
        index = torch.from_numpy(np.concatenate([p.index for p in portions]))
        images = torch.empty(len(index), seen.channels, seen.height, seen.width)
        group = Group(images, index, stream)
        first = 0
        for portion in portions:
            pixels = portion.pixels()
            last = first + len(pixels)
            self.normalisation(torch.from_numpy(pixels), out=images[first:last])
            group.targets |= portion.data.targets(
                portion.labelled, portion.index, first, portion.change
            )
            first = last
        for target in group.targets.values():
            if target.rows is not None and len(target.rows) == len(group):
                target.rows = None
        return group

"""What the methods of a config cost, before anything is trained and, where possible, read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from polytask import tasks as task_kinds
from polytask.batch import Input
from polytask.cost.count import Convention
from polytask.cost.model import Cost, measure
from polytask.cost.timing import latencies
from polytask.data.making import own_stream
from polytask.data.pipeline import TOGETHER
from polytask.data.prepare import Size
from polytask.data.source import Source
from polytask.data.store import first_size
from polytask.errors import ConfigError
from polytask.sharing.build import build_method
from polytask.tasks.task import PretextTask, Task

if TYPE_CHECKING:
    from polytask.config.models import Config
    from polytask.sharing.method import SharingMethod

CHANNELS = 3  # grey images are repeated


def cost_of_config(config: Config, convention: Convention = "plain") -> dict[str, Cost]:
    """Count every method of a config, by its key; no weight gets a value and no image is computed.

    A data set is read only for what the config does not say: the classes of its tasks, the size of
    its images. A task without data needs its `classes`, and `image_size` unless a data set has one.

    Raises:
        UserError: data or labels are wrong, or a method does not fit its tasks or the backbone.
    """
    return {key: measure(method, convention) for key, method in _untrained(config, "meta")}


def latencies_of_config(config: Config) -> dict[str, dict[str, float]]:
    """Measure every task's path of every method, in milliseconds, with initial weights.

    Raises:
        UserError: as `cost_of_config`.
    """
    return {key: latencies(method, runs=20) for key, method in _untrained(config, "cpu")}


def _untrained(config: Config, device: str) -> Iterator[tuple[str, SharingMethod]]:
    tasks = task_kinds.build(config.tasks)
    streams, stream_of = streams_of(config, tasks)
    # Weights cost nothing to leave out: their values change no count.
    untrained = {"pretrained": False, "weights": None, "init": None}
    plain = config.model_copy(update={"backbone": config.backbone.model_copy(update=untrained)})
    for entry in config.methods:
        with torch.device(device):
            method = build_method(plain, entry, tasks, streams, stream_of, config.seeds[0])
        yield entry.key, method.eval()


def streams_of(
    config: Config, tasks: Mapping[str, Task]
) -> tuple[dict[str, Input], dict[str, str]]:
    """The input of each stream and the stream of each task, as the data of a run would say them.

    A data set whose tasks lack classes is read, and an image of one whose size nothing fixes.

    Raises:
        UserError: data or labels are wrong, or nothing says how large a task's images are.
    """
    home = {name: task.data or f"task {name}" for name, task in tasks.items()}
    sizes: dict[str, Size] = {}
    for name, source in config.data.items():
        mine = [task for task in tasks.values() if task.data == name]
        if mine:
            sizes[name] = _image_size(config, name, source, mine)
    for name in [name for name, task in tasks.items() if task.data is None]:
        side = config.image_size
        if not (side or sizes):
            raise ConfigError.at(
                config.place("image_size"),
                f"missing; task {name} has no data set that fixes the size of its images.",
            )
        sizes[home[name]] = (side, side) if side else _union(sizes)
    if config.mixing == "integrated":
        sizes = dict.fromkeys(sizes, _union(sizes))
    together = config.mixing == "integrated" and config.norm == "mixed"
    stream_of = {name: TOGETHER if together else home[name] for name in tasks}
    stream_of |= {n: own_stream(home[n], n) for n, t in tasks.items() if isinstance(t, PretextTask)}
    inputs = {name: Input(CHANNELS, *sizes[home[name]]) for name in tasks}
    return {stream_of[n]: task.input(inputs[n]) for n, task in tasks.items()}, stream_of


def _image_size(config: Config, name: str, source: Source, tasks: Sequence[Task]) -> Size:
    """The size of a data set's images; classes that its tasks lack are read on the way."""
    sides = source.sides(config.image_size)
    unknown = [task for task in tasks if not task.classes]
    if sides and not unknown:
        return sides
    images = source.load(name, config.folder)
    for task in unknown:
        task.read_labels(images)
    return sides or first_size(images, np.arange(len(images)))


def _union(sizes: Mapping[str, Size]) -> Size:
    heights, widths = zip(*sizes.values(), strict=True)
    return max(heights), max(widths)

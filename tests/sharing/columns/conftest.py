"""Small columns without data: classifications of three classes, VGG-11 a sixteenth as wide."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from polytask import backbones, registry
from polytask.batch import Batch, Group, Input, Target
from polytask.config import Config, read_config
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

Build = Callable[..., SharingMethod]


@pytest.fixture
def build() -> Build:
    """Build a method: `build("nddr", {"alpha": 1.0}, tasks=3, sizes=[(3, 16, 16), …])`."""

    def make(
        name: str,
        options: dict[str, Any] | None = None,
        *,
        tasks: int = 2,
        sizes: list[tuple[int, int, int]] | None = None,
        backbone: str = "vgg11",
        seed: int = 0,
        **given: Any,
    ) -> SharingMethod:
        names = "abcd"[:tasks]
        kind = registry.load("tasks", "classification", Task)
        made = {n: kind(n, kind.Options(kind="classification", classes=3)) for n in names}
        own = [Input(*size) for size in sizes or [(3, 16, 16)]]
        streams = {f"s{i}": size for i, size in enumerate(own)}
        stream_of = {n: f"s{i if sizes else 0}" for i, n in enumerate(names)}
        network = {"width": 0.0625} | given.pop("network", {})
        small = partial(backbones.build, backbone, **network)
        norm = "per_data" if sizes else "mixed"
        setting = Setting(made, streams, stream_of, small, seed=seed, norm=norm, **given)
        method = registry.load("sharing", name, SharingMethod)
        checked = method.Options(**(options or {}))
        reason = method.refuses(setting, checked)
        assert reason is None, reason
        return method(setting, checked)

    return make


@pytest.fixture
def batch_for() -> Callable[..., Batch]:
    """One group for all tasks (with `rows`), or one for each where they have own streams."""

    def make(
        method: SharingMethod,
        rows: dict[str, list[int] | None] | None = None,
        count: int = 4,
        seed: int = 0,
    ) -> Batch:
        draw = torch.Generator().manual_seed(seed)
        setting = method.setting
        by_stream: dict[str, list[str]] = {}
        for task in rows or method.tasks:
            by_stream.setdefault(setting.stream_of[task], []).append(task)
        groups = []
        for stream, tasks in by_stream.items():
            size = setting.streams[stream]
            shape = (count, size.channels, size.height, size.width)
            group = Group(torch.randn(shape, generator=draw), torch.arange(count), stream)
            for task in tasks:
                chosen = None if rows is None else rows[task]
                labels = torch.randint(3, (count if chosen is None else len(chosen),))
                at = None if chosen is None else torch.tensor(chosen, dtype=torch.long)
                group.targets[task] = Target(labels, at)
            groups.append(group)
        return Batch(groups)

    return make


@pytest.fixture
def config() -> Callable[..., Config]:
    """A comparison of two digit sets of 12 and 16 pixels, small enough for a second a run."""

    def make(methods: list[Any], top: dict[str, Any] | None = None, **train: Any) -> Config:
        return read_config(
            {
                "data": {
                    "handwritten": {"source": "digits", "fraction": 0.05, "size": 12},
                    "printed": {"source": "printed_digits", "count": 120, "size": 16},
                },
                "tasks": {
                    "read_handwriting": {"kind": "classification", "data": "handwritten"},
                    "read_print": {"kind": "classification", "data": "printed"},
                },
                "mixing": "multi_input",
                "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
                "methods": methods,
                "train": {"epochs": 2, "batch": 20, **train},
                "seeds": 1,
                **(top or {}),
            }
        )

    return make

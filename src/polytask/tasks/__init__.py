"""What to predict: one file per kind of task."""

from __future__ import annotations

from collections.abc import Mapping

from polytask import registry
from polytask.tasks.task import Task, TaskOptions

NOT_NAMES = (
    "task",
    "columns",
    "head",
    "dense",
    "label_maps",
    "pyramid",
    "unet",
    "deeplab",
    "box_losses",
    "ssd",
    "dec",
    "average_precision",
    "angles",
    "merging",
    "macro",
)


def build(options: Mapping[str, TaskOptions]) -> dict[str, Task]:
    """The tasks of a config, in its order."""
    return {
        name: registry.load("tasks", chosen.kind, Task)(name, chosen)
        for name, chosen in options.items()
    }

"""Raw images and pretext tasks, built for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytask import registry
from polytask.data.making import Raw
from polytask.tasks.task import PretextTask, Task


def raw_of(pixels: np.ndarray, index: Any = None, *, key: int = 5, training: bool = True) -> Raw:
    """Images of a data set that holds `pixels`; those numbered `index`, all by default."""
    chosen = np.arange(len(pixels)) if index is None else np.asarray(index)
    return Raw(
        pixels[chosen],
        chosen,
        np.zeros_like(chosen),
        key,
        np.arange(len(pixels)),
        pixels.__getitem__,
        is_training=training,
    )


def task_of(kind: str, **options: Any) -> PretextTask:
    made: PretextTask = (chosen := registry.load("tasks", kind, Task))(
        kind, chosen.Options(kind=kind, **options)
    )
    return made

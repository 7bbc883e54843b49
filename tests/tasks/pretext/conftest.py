"""Raw images and pretext tasks without a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """Twelve images of smooth colours [12, 3, 32, 32]."""
    y, x = np.mgrid[:32, :32]
    rng = np.random.default_rng(0)
    waves = rng.uniform(0.1, 0.5, (12, 3, 3))
    shown = np.sin(waves[..., 0, None, None] * y + waves[..., 1, None, None] * x)
    shown += waves[..., 2, None, None] * 4
    return ((shown + 1) * 60).clip(0, 255).astype(np.uint8)


@pytest.fixture
def raw() -> Any:
    return raw_of


@pytest.fixture
def task() -> Any:
    return task_of

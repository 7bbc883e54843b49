"""Raw images and pretext tasks without a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from raw_images import raw_of, task_of


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

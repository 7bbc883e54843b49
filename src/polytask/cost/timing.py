"""How long a path takes for one image, measured."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch
from torch import nn

from polytask.batch import Input

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod


def latencies(method: SharingMethod, runs: int = 10) -> dict[str, float]:
    """Measure every task's path as `latency` does."""
    return {
        name: latency(method.path(name).cpu(), method.setting.input_of(name), task.views, runs)
        for name, task in method.tasks.items()
    }


def latency(
    path: nn.Module, size: Input, views: int = 1, runs: int = 20, warm_up: int = 3
) -> float:
    """Measure the median time of one image, in all its views, through a path.

    In milliseconds of one CPU thread, as on a core of its own: what neighbours take is left out.
    """
    image = torch.zeros(views, size.channels, size.height, size.width)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(warm_up):
                path(image)
            times = [_seconds(path, image) for _ in range(runs)]
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(times)


def _seconds(path: nn.Module, image: torch.Tensor) -> float:
    start = time.thread_time()
    path(image)
    return time.thread_time() - start

"""How long a path takes for one image, measured."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from polytask.batch import Input


def latency(path: nn.Module, size: Input, runs: int = 20, warm_up: int = 3) -> float:
    """Measure the median time of one image through a path: milliseconds, on one CPU thread."""
    image = torch.zeros(1, size.channels, size.height, size.width)
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
    start = time.perf_counter()
    path(image)
    return time.perf_counter() - start

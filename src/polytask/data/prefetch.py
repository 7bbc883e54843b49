"""The next batch is made while the current one is in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(
    make: Callable[[int], Item], steps: range, waited: Callable[[float], None]
) -> Iterator[Item]:
    """`make(step)` for each step in order, one ahead, in one background thread.

    `waited` is told the seconds that the caller stood waiting for each. What `make` raises surfaces
    here; the thread ends with the iterator, also when that is closed early.
    """
    if not steps:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(make, steps[0])
        for step in steps:
            began = time.perf_counter()
            item = coming.result()
            waited(time.perf_counter() - began)
            if step + 1 in steps:
                coming = thread.submit(make, step + 1)
            yield item

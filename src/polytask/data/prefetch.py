"""The next batches are made while the current one is in use."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
AHEAD = 2  # one is taken, the next is ready, the thread goes on without waiting for the caller
FAR = 8  # where images are read from files, whose next chunk or large picture takes longer


def prefetched(
    make: Callable[[int], Item], steps: range, waited: Callable[[float], None], ahead: int = AHEAD
) -> Generator[Item, None, None]:
    """`make(step)` for each step in order, in one background thread at most `ahead` steps ahead.

    `waited` is told the seconds that the caller stood waiting for each. What `make` raises surfaces
    here; the thread ends with the iterator, also when that is closed early.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
    try:
        coming = deque(thread.submit(make, step) for step in steps[:ahead])
        for following in range(steps.start + ahead, steps.stop + ahead):
            began = time.perf_counter()
            item = coming.popleft().result()
            waited(time.perf_counter() - began)
            if following in steps:
                coming.append(thread.submit(make, following))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)

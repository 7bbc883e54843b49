"""Ctrl-C as a request: the run saves its state and stops; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from polytask.training.progress import Progress


@contextmanager
def terminates_like_interrupt() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt as SIGINT does, so that a scheduler ends it cleanly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stops_on_interrupt(progress: Progress) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `progress.stop()`; the next one has its usual effect.

    Outside the main thread signals cannot be caught, and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        del number, frame
        progress.stop()
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield
    finally:
        restore()

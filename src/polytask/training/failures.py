"""Faults of the machine while a run trains, each told with what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from polytask.errors import Failed

GOES_ON = "--resume goes on from the last saved state"
FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Tell a lack of memory or disk in a line that says what to do.

    Raises:
        Failed: with that line.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in FULL:
            raise Failed(
                f"{place}: no space left on the disk; free some, then {GOES_ON}"
            ) from error
        if error.errno in CLOSED:
            why = str(error.strerror).lower()
            hint = f"make it writable, then {GOES_ON}"
            raise Failed(f"{place}: cannot be written ({why}); {hint}") from error
        raise
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        raise Failed(
            f"{folder}: out of memory; lower train.batch or the image size, use more --devices or "
            "fewer --jobs (a changed config needs --overwrite), or free memory: "
            f"{GOES_ON}"
        ) from error


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error)  # what torch's allocator for the CPU says

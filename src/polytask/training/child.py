"""Processes that work for one command: started with a message on standard input, or by torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

TAIL_LINES = 3


def start(main: str, errors: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A fresh Python that runs `module:function`, both ends of it pipes but for its errors.

    Not multiprocessing: its child would run the user's main script again.
    """
    module, _, function = main.partition(":")
    program = f"import sys; sys.path[:] = {sys.path!r}; from {module} import {function}; "
    program += f"{function}()"
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={"OMP_NUM_THREADS": "1", **os.environ, **environment},
        start_new_session=True,  # Ctrl-C reaches the parent alone, which tells the child
    )


def cause_of_death(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """Why a process that has ended, or is about to, did."""
    code = process.wait()
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often for lack of memory; --jobs 1 needs less)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    said = ": " + " / ".join(lines[-TAIL_LINES:]) if lines else ""
    return f"its process ended with code {code}{said}"


def torchrun_size() -> int:
    """The processes that torchrun has started; 1 without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1
    return int(os.environ["WORLD_SIZE"])

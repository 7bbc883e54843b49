"""What became of one run of a comparison: its result and cost, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polytask.errors import RunError

RESULT, COST, ERROR = "result.json", "cost.json", "error.txt"


@dataclass(frozen=True)
class Outcome:
    """A run that finished has a `result`; one that did not has a `failure` and its `reason`.

    `task` is the one whose loss diverged.
    """

    method: str
    seed: int
    result: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    failure: Literal["diverged", "failed"] | None = None
    reason: str = ""
    task: str | None = None

    @property
    def label(self) -> str:
        """The run as messages name it, which is also where it stands in the folder."""
        return run_label(self.method, self.seed)

    @property
    def words(self) -> str:
        """The outcome in a few words: done, failed, diverged (task read_print)."""
        where = f" (task {self.task})" if self.task else ""
        return f"{self.failure or 'done'}{where}"


def run_label(method: str, seed: int) -> str:
    """The name of a run in messages, and its place in a comparison's folder."""
    return f"{method}/seed{seed}"


def read_outcome(method: str, seed: int, folder: Path) -> Outcome | None:
    """The outcome of a finished run, or `None` while its folder holds no result.

    Raises:
        RunError: a file is damaged.
    """
    result = _read(folder / RESULT, "tasks")
    return None if result is None else Outcome(method, seed, result, read_cost(folder))


def read_cost(folder: Path) -> dict[str, Any] | None:
    """What the network of a run costs, which is known before it is trained.

    Raises:
        RunError: the file is damaged.
    """
    return _read(folder / COST, "total")


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """The document of a file, known by one of its keys."""
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        content[key]
    except (ValueError, LookupError, TypeError) as error:
        raise RunError.at(str(path), "is damaged.", "Train the run again without it.") from error
    return content

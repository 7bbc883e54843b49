"""Phases, update rules, the loop, checkpoints and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.training.progress import Progress


def train_run(*args: Any, **keywords: Any) -> dict[str, Any]:
    """Train one method with one seed into a run folder; see `polytask.training.run.train_run`."""
    from polytask.training import run

    return run.train_run(*args, **keywords)


def train(
    config: str | Path | Mapping[str, Any],
    method: str,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train one method of a config into a run folder and return its result.

    `method` is the key of an entry of the config's `methods`, or a method's bare name; `out` is
    `runs/<config name>/<method>` unless given.
    """
    from polytask.config import read_config
    from polytask.training import run

    chosen = read_config(config, overrides)
    entry = chosen.method(method)
    folder = Path(out) if out is not None else Path("runs") / chosen.name / entry.key
    first = chosen.seeds[0] if seed is None else seed
    return run.train_run(chosen, entry, first, folder, progress=progress, resume=resume)

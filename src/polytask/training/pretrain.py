"""Pretraining: the pretext tasks of a config, whatever else it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask import registry
from polytask.errors import ConfigError, one_of

if TYPE_CHECKING:
    from polytask.config import Config
    from polytask.training.progress import Progress


def pretext_config(config: Config) -> Config:
    """The config with its pretext tasks alone.

    Raises:
        ConfigError: it has none.
    """
    kinds = registry.entries("tasks")
    kept = {n: task for n, task in config.tasks.items() if kinds[task.kind].family == "pretext"}
    if not kept:
        known = [name for name, entry in kinds.items() if entry.family == "pretext"]
        found = ", ".join(f"{name} is {task.kind}" for name, task in config.tasks.items())
        raise ConfigError.at(
            config.place("tasks"),
            f"holds no pretext task ({found}); expected one or more of kind {one_of(known)}.",
        )
    return config.model_copy(update={"tasks": kept})


def pretrain(
    config: Config,
    method: str | None = None,
    *,
    seed: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a method on the pretext tasks of a config; labels are not used.

    The method is the first of the config's that is not `single`, or `hard`; it must be a trunk for
    `backbone.init` to start from the run.

    Raises:
        UserError: the input or the folder is wrong, or the config has no pretext task.
        KeyboardInterrupt: stopped by Ctrl-C, the state saved.
    """
    from polytask.training import train

    chosen = pretext_config(config)
    listed = [entry.key for entry in chosen.methods if entry.name != "single"]
    key = method or (listed[0] if listed else "hard")
    return train(
        chosen,
        key,
        seed=seed,
        out=out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )

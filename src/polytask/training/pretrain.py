"""Pretraining: the pretext tasks of a config alone, and the runs that its methods learn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask import registry
from polytask.errors import ConfigError, one_of
from polytask.training import checkpoint, output, preflight
from polytask.training.assembly import Work
from polytask.training.child import torchrun_size
from polytask.training.processes import is_follower
from polytask.training.progress import Progress, Silent

if TYPE_CHECKING:
    from polytask.config import Config


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


def comes_before(work: Work) -> bool:
    """Whether a run learns from one of the section `pretraining` that it has not been given."""
    transfer = work.entry.options.transfer
    return transfer is not None and transfer.pretraining is not None and transfer.run is None


def after(work: Work, progress: Progress | None, devices: int, overwrite: bool) -> Work:
    """The work with the run that it learns from, which has the same seed and is trained first.

    It stands in the folder of the comparison, which has checked all input; or in that of the run.

    Raises:
        UserError: the input is wrong; nothing has been written or deleted.
        Failed, Diverged, KeyboardInterrupt: as `train_run`.
    """
    from polytask.training.run import train_run

    transfer = work.entry.options.transfer
    assert transfer is not None
    assert transfer.pretraining is not None
    part = work.config.pretraining[transfer.pretraining]
    if work.comparison is None:
        preflight.check(work.config, [work.entry], max(devices, torchrun_size()))
    folder = folder_of(work.comparison or work.folder, transfer.pretraining, work.seed)
    with _begun(work, progress or Silent(), overwrite):
        train_run(
            part,
            part.methods[0],
            work.seed,
            folder,
            progress=progress,
            resume=True,
            devices=devices,
            is_teacher=True,
        )
    found = transfer.model_copy(update={"run": folder.absolute()})
    options = work.entry.options.model_copy(update={"transfer": found})
    return replace(work, entry=work.entry.model_copy(update={"options": options}))


@contextmanager
def _begun(work: Work, progress: Progress, overwrite: bool) -> Iterator[None]:
    """Inside, a run's folder is this process's and holds what `--resume` asks it for; that of a
    run in a comparison is begun with the run."""
    from polytask.training.run import locked

    if work.comparison is not None or is_follower():
        yield
        return
    with locked(work, progress):
        if overwrite and work.folder.exists():
            output.clear(work.folder)
        if not (work.folder / output.DESCRIPTION).exists():
            work.folder.mkdir(parents=True, exist_ok=True)
            about = {"method": work.entry.key, "seed": work.seed}
            checkpoint.write_json(work.folder / output.DESCRIPTION, about)
            checkpoint.write_text(work.folder / output.CONFIG, work.config.dump())
        yield


def folder_of(home: Path, name: str, seed: int) -> Path:
    """Where the run of a pretraining stands in the folder of a comparison, or of a run."""
    return home / output.PRETRAINING / name / f"seed{seed}"


def pretrain(
    config: Config,
    method: str | None = None,
    *,
    seed: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    devices: int = 1,
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
        devices=devices,
        progress=progress,
    )

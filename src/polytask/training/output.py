"""The folder that a run or a comparison writes to: new, gone on with, or made anew."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from polytask.errors import Fault, RunError
from polytask.training.fingerprint import KEPT

if TYPE_CHECKING:
    from polytask.config import Config

CONFIG, DESCRIPTION, WEIGHTS = "config.yaml", "tasks.json", "model.safetensors"
PRETRAINING = "pretraining"  # the runs that others learn from
LOCK = ".polytask.lock"  # of a comparison; its runs have locks of their own
TRASH = ".trash"
HIDDEN = {LOCK, KEPT, TRASH}
EVIDENCE = {LOCK, PRETRAINING, "metrics.jsonl", "result.json", "results.json", "search.db"}
FILES = {
    CONFIG,
    "metrics.jsonl",
    WEIGHTS,
    "state",
    "cost.json",
    DESCRIPTION,
    "samples",
    "plots",
    "report.html",
    "log.txt",
    "error.txt",
    "result.json",
    "results.json",
    "results.csv",
    "teachers",
    PRETRAINING,
    "export",
    "explain",
    "search.db",
    "search.json",
    "trials",
    "chosen.yaml",
    "tensorboard",
    "wandb",
    "mlruns",
    "mlflow_run",
}
SEED = re.compile(r"\.?seed\d+(\.lock|\.partial)?")


def is_unused(folder: Path) -> bool:
    """Whether nothing is there yet."""
    return not folder.exists() or (folder.is_dir() and {p.name for p in folder.iterdir()} <= HIDDEN)


def check_output(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that must not be written to, before anything is.

    Raises:
        RunError: it holds something and neither `resume` nor `overwrite` is asked for, or what it
            holds is not polytask's own.
    """
    check_place(folder)
    if resume and overwrite:
        raise RunError.at(str(folder), "got both --resume and --overwrite; expected one of them.")
    if is_unused(folder):
        return
    if not resume and not overwrite:
        raise RunError.at(
            str(folder),
            "is not empty.",
            "--resume goes on with what is there, --overwrite deletes it and starts again.",
        )
    names = {entry.name for entry in folder.iterdir()}
    if not names & EVIDENCE:
        raise RunError.at(
            str(folder), "holds no run or comparison of polytask.", "Give another --out."
        )
    if overwrite and (foreign := _foreign(folder)):
        raise RunError.at(
            str(folder),
            f"holds {', '.join(foreign[:3])}, which polytask did not write and will not delete.",
            "Move it away, or give another --out.",
        )
    if resume and CONFIG not in names:
        raise RunError.at(str(folder), f"holds no {CONFIG} to resume with.", "Use --overwrite.")


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to.

    Raises:
        RunError: with the reason.
    """
    problem = None
    try:
        first = next(p for p in (folder.absolute(), *folder.absolute().parents) if _is_there(p))
    except OSError as error:
        problem = f"cannot be made: {error.strerror}."
    else:
        if not first.is_dir():
            is_it = first == folder.absolute()
            problem = "is a file" if is_it else f"cannot be made, because {first} is a file"
            problem += "; expected a folder."
        elif not os.access(first, os.W_OK | os.X_OK):
            problem = f"cannot be written to; {first} may not be changed."
    if problem:
        raise RunError.at(str(folder), problem, "Give another --out.")


def _is_there(path: Path) -> bool:
    # Not `exists`, which may take a name that is too long for one that is free.
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def locked(folder: Path, file: Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other processes out of a folder; the operating system frees the lock of a dead one.

    Args:
        folder: what nobody else may write to.
        file: the lock; its folder is made where there is none.
        wait: is called before waiting for another process; without it there is no waiting.

    Raises:
        RunError: another process has the lock, or no file can be made there.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()  # filelock waits for one that cannot be made
        lock.acquire(timeout=0)
    except Timeout as error:
        if wait is None:
            problem = "is in use by another polytask process."
            hint = "Wait for it to end, or give another --out."
            raise RunError.at(str(folder), problem, hint) from error
        wait()
        lock.acquire()
    except OSError as error:
        problem = f"cannot be made: {error.strerror}."
        raise RunError.at(str(folder), problem, "Give another --out.") from error
    try:
        yield
    finally:
        lock.release()


def _foreign(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name not in FILES | HIDDEN and not _holds_runs(entry)
    )


def _holds_runs(entry: Path) -> bool:
    is_folder = entry.is_dir() and not entry.is_symlink()
    return is_folder and all(SEED.fullmatch(child.name) for child in entry.iterdir())


def check_same_config(folder: Path, config: Config) -> None:
    """Refuse to resume with another config than the folder was made with.

    Raises:
        RunError: with a line for each key that differs.
    """
    from polytask.config import read_config

    written = folder / CONFIG
    changes = read_config(written, options=False).difference(config)
    if changes:
        first = Fault(
            str(folder),
            "cannot resume, the config has changed.",
            "Use --overwrite to start again, or another --out.",
        )
        raise RunError([first, *(Fault(str(written), change) for change in changes)])


def check_same_run(folder: Path, method: str, seed: int) -> None:
    """Refuse to resume with another method or seed than the run folder was made with.

    Raises:
        RunError: with what it was made with; or the folder is that of a comparison.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        raise RunError.at(str(folder), "is no run folder; expected that of one run.")
    try:
        made = json.loads(path.read_text("utf-8"))
        known = (made["method"], made["seed"])
    except (ValueError, LookupError, TypeError) as error:
        raise RunError.at(str(path), "is damaged.", "Use --overwrite.") from error
    if known != (method, seed):
        raise RunError.at(
            str(folder),
            f"cannot resume, it is a run of {known[0]} with seed {known[1]}; "
            f"got {method} with seed {seed}.",
            "Use --overwrite to start again, or another --out.",
        )


def clear(folder: Path) -> None:
    """Delete all but what may serve again; interrupted, it leaves whole runs or none.

    A folder that loses its name in one step cannot be taken for a finished run later.
    """
    trash = folder / TRASH
    shutil.rmtree(trash, ignore_errors=True)
    trash.mkdir()
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == CONFIG):
        if entry.name not in HIDDEN:
            os.replace(entry, trash / entry.name)
    shutil.rmtree(trash)


def keep(run: Path, name: str) -> None:
    """Put a finished run of a comparison aside, for a later run with the same hash."""
    kept = run.parent.parent / KEPT / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(exist_ok=True)
    os.replace(run, kept)

"""The files of a finished run: which folder is meant, and what is in it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from polytask.batch import Input
from polytask.compare.results import best_run
from polytask.data.prepare import Normalisation
from polytask.errors import RunError, one_of, unknown
from polytask.training.output import DESCRIPTION, WEIGHTS


class TaskDescription(BaseModel):
    """What is known of a task only after training: its classes, in the order of its outputs."""

    classes: list[str]


class Description(BaseModel):
    """What a run says in `tasks.json`: the tasks with their classes, and what the network reads."""

    method: str
    seed: int
    tasks: dict[str, TaskDescription]
    streams: dict[str, Input]
    stream_of: dict[str, str]
    normalisation: Normalisation


def find_run(folder: Path, method: str | None = None, seed: int | None = None) -> Path:
    """The folder of one finished run, in a comparison that of a method and seed.

    By default it is the method that is best on validation data, and its first finished seed.

    Raises:
        RunError: there is no such run, or it has not finished.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise RunError.at(str(folder), f"{found}; expected the folder of a run or of a comparison.")
    run = folder if (folder / DESCRIPTION).exists() else _choose(folder, method, seed)
    description = read_description(run)
    if method not in (None, description.method) or seed not in (None, description.seed):
        raise RunError.at(
            str(run),
            f"is the run of {description.method} with seed {description.seed}, and no other.",
            "Give the comparison's folder to choose among its runs.",
        )
    if not (run / WEIGHTS).exists():
        raise RunError.at(
            str(run), f"holds no {WEIGHTS}: the run has not finished.", "Go on with --resume."
        )
    return run


def finished_methods(folder: Path, seed: int | None = None) -> list[str]:
    """The methods of a comparison of which a run, or that of a seed, has finished; none where it is
    no comparison."""
    if (folder / DESCRIPTION).exists():
        return []
    return [name for name, seeds in _runs(folder, WEIGHTS).items() if seed in (None, *seeds)]


def _runs(folder: Path, file: str) -> dict[str, list[int]]:
    """The seeds of each method of a comparison whose runs hold a file."""
    runs: dict[str, list[int]] = {}
    for path in sorted(folder.glob(f"*/seed*/{file}")):
        number = path.parent.name.removeprefix("seed")
        if number.isdecimal():
            runs.setdefault(path.parent.parent.name, []).append(int(number))
    return runs


def _choose(folder: Path, method: str | None, seed: int | None) -> Path:
    runs = _runs(folder, DESCRIPTION)
    if not runs:
        raise RunError.at(
            str(folder), "holds no run; expected the folder of a run or of a comparison."
        )
    if method is None:
        method, first = best_run(folder)
        seed = first if seed is None else seed
    if method not in runs:
        raise RunError(unknown(str(folder), "method", method, runs))
    seeds = sorted(runs[method])
    if seed is None:
        seed = min(_runs(folder, WEIGHTS).get(method, seeds))  # another may have diverged
    if seed not in seeds:
        raise RunError.at(
            str(folder), f"no seed {seed} of {method}; expected {one_of(map(str, seeds))}."
        )
    return folder / method / f"seed{seed}"


def read_description(run: Path) -> Description:
    """What `tasks.json` of a run says.

    Raises:
        RunError: the file is damaged.
    """
    path = run / DESCRIPTION
    try:
        return Description.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError.at(
            str(path),
            "is damaged; expected the description that a run writes.",
            "Train again with --overwrite.",
        ) from error

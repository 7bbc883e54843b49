"""What is in a run or comparison folder, finished or not; what is not there is said."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from polytask.errors import RunError
from polytask.report import numbers
from polytask.report.records import (
    Answers,
    Confusion,
    Cost,
    Filters,
    How,
    MethodResult,
    Reproduction,
    Results,
    RunDescription,
    RunResult,
    Spread,
    TaskFacts,
)

Record = TypeVar("Record", bound=BaseModel)
IMPACTS = {"impact": "impact μ", "alpha": "coefficient α", "beta": "task gradient β"}
RUN_FILES = ("config.yaml", "metrics.jsonl", "result.json", "log.txt", "error.txt")


@dataclass
class Run:
    """One training run. `notes` say which of its files are missing or unreadable."""

    folder: Path
    method: str
    seed: str
    config: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    result: RunResult | None = None
    cost: Cost | None = None
    filters: Filters | None = None
    answers: Answers | None = None
    confusion: Confusion | None = None
    samples: list[Path] = field(default_factory=list)
    error: str = ""
    notes: list[str] = field(default_factory=list)

    def curve(self, task: str, metric: str) -> dict[int, float]:
        """The metric on validation data by how many epochs had trained the task."""
        trained = {
            str(row.get("phase"))
            for row in self.rows
            if row.get("split") == "train" and f"loss/{task}" in row
        }
        epochs = 0
        found: dict[int, float] = {}
        for row in self.rows:
            epochs += row.get("split") == "train" and f"loss/{task}" in row
            value = row.get(f"{task}/{metric}")
            if row.get("split") != "val" or not isinstance(value, int | float):
                continue
            if not trained or str(row.get("phase")) in trained:
                found[epochs if trained else len(found) + 1] = float(value)
        return found

    def impacts(self) -> dict[str, dict[str, list[float]]]:
        """How far each task of an ensemble moved the shared weights by epoch, its coefficient, and
        that of the step back from the last task towards the first."""
        found: dict[str, dict[str, list[float]]] = {}
        for row in self.rows:
            for key, value in row.items():
                kind, _, task = key.partition("/")
                if row.get("split") == "train" and kind in IMPACTS:
                    curves = found.setdefault(IMPACTS[kind], {})
                    curves.setdefault(task or "towards the first task", []).append(float(value))
        return found


@dataclass
class Folder:
    """A comparison (several methods) or one run, ready to be reported on."""

    path: Path
    is_comparison: bool
    methods: dict[str, MethodResult]
    runs: dict[str, list[Run]]
    config: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, TaskFacts] = field(default_factory=dict)
    has_results: bool = False
    reproduction: Reproduction | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        """Every task that any method has a score or a cost for, in order."""
        found: dict[str, None] = {}
        for method in self.methods.values():
            found |= dict.fromkeys([*method.tasks, *(method.cost.tasks if method.cost else ())])
        return list(found)

    @property
    def seeds(self) -> int:
        """How many seeds the scores are of."""
        return max(
            (
                sum(map(numbers.known, spread.per_seed))
                for method in self.methods.values()
                for metrics in method.tasks.values()
                for spread in metrics.values()
            ),
            default=0,
        )

    def primary(self, task: str) -> str | None:
        """The metric that decides a task: what a run says, else the first one listed."""
        if task in self.facts and self.facts[task].primary:
            return self.facts[task].primary
        for run in self.all_runs():
            if run.result and task in run.result.primary:
                return run.result.primary[task]
        for method in self.methods.values():
            if method.tasks.get(task):
                return next(iter(method.tasks[task]))
        return None

    @property
    def primaries(self) -> dict[str, str]:
        """The deciding metric of every task that has a score."""
        found = {task: self.primary(task) for task in self.tasks}
        return {task: metric for task, metric in found.items() if metric is not None}

    def chance(self, task: str) -> float | None:
        """The primary metric of the best constant guess."""
        if task in self.facts and numbers.known(self.facts[task].chance):
            return self.facts[task].chance
        for run in self.all_runs():
            if run.result and numbers.known(run.result.chance.get(task)):
                return run.result.chance[task]
        return None

    def all_runs(self) -> list[Run]:
        """Every run of every method."""
        return [run for runs in self.runs.values() for run in runs]


def read_folder(path: Path) -> Folder:
    """Read a comparison or run folder.

    Raises:
        RunError: there is no such folder, or it is neither.
    """
    if not path.is_dir():
        raise RunError.at(str(path), "no such folder.", "Give the folder of a run or a comparison.")
    found = sorted(p for p in path.glob("*/seed*") if p.is_dir())
    if (path / "results.json").exists() or found:
        return _read_comparison(path, found)
    if any((path / name).exists() for name in RUN_FILES):
        return _read_single_run(path)
    raise RunError.at(
        str(path),
        "found neither results.json nor <method>/seed<k>/ folders (a comparison), "
        f"nor any of {', '.join(RUN_FILES)} (a run).",
        "Give the folder that --out named.",
    )


def _read_comparison(path: Path, folders: list[Path]) -> Folder:
    notes: list[str] = []
    results = _read(path / "results.json", Results, notes)
    runs: dict[str, list[Run]] = {}
    for folder in sorted(folders, key=_seed_order):
        run = _read_run(folder)
        runs.setdefault(folder.parent.name, []).append(run)
    methods = dict(results.methods) if results else {}
    for name, found in runs.items():
        if name not in methods:
            methods[name] = _summary(found)
    names = sorted(methods, key=lambda name: name != "single")
    for name in names:
        if methods[name].cost is None:
            methods[name].cost = _first_cost(runs.get(name, []))
    return Folder(
        path=path,
        is_comparison=True,
        methods={name: methods[name] for name in names},
        runs={name: runs.get(name, []) for name in names},
        config=_comparison_config(path, results, runs),
        versions=results.versions if results else {},
        facts=results.tasks if results else {},
        has_results=results is not None,
        reproduction=_read_if_there(path / "reproduction.json", Reproduction, notes),
        notes=notes,
    )


def _read_single_run(path: Path) -> Folder:
    run = _read_run(path)
    return Folder(
        path=path,
        is_comparison=False,
        methods={run.method: _summary([run])},
        runs={run.method: [run]},
        config=run.config,
        versions=run.result.versions if run.result else {},
    )


def _read_run(folder: Path) -> Run:
    notes: list[str] = []
    result = _read(folder / "result.json", RunResult, notes)
    known = result or _read_if_there(folder / "tasks.json", RunDescription, notes)
    run = Run(
        folder=folder,
        method=(known.method if known else "") or folder.parent.name,
        seed=str(known.seed) if known else folder.name.removeprefix("seed"),
        result=result,
        config=_text(folder / "config.yaml", notes),
        rows=_rows(folder / "metrics.jsonl", notes),
        cost=_read(folder / "cost.json", Cost, notes),
        samples=sorted((folder / "samples").glob("*.png")),
        notes=notes,
    )
    plots = folder / "plots"
    run.filters = _read_if_there(plots / "filters.json", Filters, notes)
    run.answers = _read_if_there(plots / "answers.json", Answers, notes)
    run.confusion = _read_if_there(plots / "confusion.json", Confusion, notes)
    if (folder / "error.txt").exists():
        run.error = _text(folder / "error.txt", notes).strip()
    return run


def _seed_order(folder: Path) -> tuple[str, int, str]:
    number = folder.name.removeprefix("seed")
    return folder.parent.name, int(number) if number.isdecimal() else 0, number


def _text(path: Path, notes: list[str]) -> str:
    if not path.exists():
        notes.append(f"{path.name} is missing")
        return ""
    return path.read_text("utf-8", errors="replace")


def _read(path: Path, record: type[Record], notes: list[str]) -> Record | None:
    text = _text(path, notes)
    if not path.exists():
        return None
    try:
        return record.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        notes.append(f"{path.name} is not JSON (line {error.lineno})")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        notes.append(f"{path.name}: {where or 'content'}: {first['msg'].lower()}")
    return None


def _read_if_there(path: Path, record: type[Record], notes: list[str]) -> Record | None:
    return _read(path, record, notes) if path.exists() else None


def _rows(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    rows, broken = [], 0
    for line in _text(path, notes).splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            broken += 1
            continue
        if isinstance(row, dict):
            rows.append(row)
    if broken:
        notes.append(f"{path.name}: {broken} unreadable row(s)")
    return rows


def _summary(runs: list[Run]) -> MethodResult:
    """What can be said of a method from its runs alone: scores and cost, no verdict."""
    results = [run.result for run in runs if run.result]
    tasks: dict[str, dict[str, Spread]] = {}
    for task in dict.fromkeys(t for r in results for t in r.tasks):
        names = dict.fromkeys(m for r in results for m in r.tasks.get(task, {}))
        tasks[task] = {m: _spread([r.tasks.get(task, {}).get(m) for r in results]) for m in names}
    seconds = [r.train_seconds for r in results if r.train_seconds is not None]
    return MethodResult(
        tasks=tasks,
        cost=_first_cost(runs),
        health=results[0].health if results else {},
        how=results[0].how if results else How(),
        train_seconds=sum(seconds) / len(seconds) if seconds else None,
    )


def _spread(values: list[float | None]) -> Spread:
    numbers_found = [v for v in values if v is not None and numbers.known(v)]
    if not numbers_found:
        return Spread(per_seed=values)
    return Spread(
        mean=statistics.fmean(numbers_found),
        std=statistics.stdev(numbers_found) if len(numbers_found) > 1 else None,
        per_seed=values,
    )


def _comparison_config(path: Path, results: Results | None, runs: Mapping[str, list[Run]]) -> str:
    """The resolved config as a file says it, else as the results hold it."""
    if (path / "config.yaml").exists():
        return (path / "config.yaml").read_text("utf-8", errors="replace")
    if results and results.config is not None:
        return _config_text(results.config)
    return next((run.config for found in runs.values() for run in found if run.config), "")


def _first_cost(runs: list[Run]) -> Cost | None:
    return next((run.cost for run in runs if run.cost), None)


def _config_text(config: Any) -> str:
    if isinstance(config, str):
        return config
    import yaml

    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)

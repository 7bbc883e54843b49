"""The tables, pictures and notes of the page as plain data; empty where there is nothing."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytask.report import numbers
from polytask.report.folder import Folder, Run
from polytask.report.records import MethodResult, PathCost
from polytask.report.wording import listed

SIGNS = {"helps": "▲", "hurts": "▼", "unclear": "◇"}
HEALTH = {
    "learning": "learning",
    "at_chance": "at chance",
    "diverged": "diverged",
    "no_labels": "no labels",
}
PNG = b"\x89PNG\r\n\x1a\n"
# A page with more than this in pictures gets slow on a phone.
MOST_SAMPLE_BYTES = 4_000_000


@dataclass(frozen=True)
class Cell:
    """A number in a table: its text, what it sorts by, and a word or sign with a reason."""

    text: str
    value: float | None = None
    sign: str = ""
    kind: str = ""
    title: str = ""


@dataclass(frozen=True)
class Row:
    """A method's row."""

    method: str
    cells: list[Cell]


@dataclass(frozen=True)
class Sample:
    """A picture of a batch, in the page itself."""

    caption: str
    uri: str
    width: int
    height: int
    method: str


@dataclass
class Training:
    """What one method was trained on, task by task."""

    method: str
    extra: str
    waiting: str
    tasks: list[tuple[str, list[str]]] = field(default_factory=list)


def result_rows(folder: Folder) -> list[Row]:
    """The main table: a score per task, Δm, the verdict, parameters and MACs."""
    rows = []
    for name, method in folder.methods.items():
        cells = [_score_cell(method, task, metric) for task, metric in folder.primaries.items()]
        if folder.is_comparison:
            cells += [_gain_cell(method), _verdict_cell(name, method)]
        cells += _size_cells(method)
        rows.append(Row(name, cells))
    return rows


def _score_cell(method: MethodResult, task: str, metric: str) -> Cell:
    spread = method.score(task, metric)
    verdict = method.verdict.tasks.get(task) if method.verdict else None
    return Cell(
        numbers.mean_std(metric, spread.mean, spread.std, spread.per_seed),
        spread.mean,
        SIGNS[verdict.value] if verdict else "",
        verdict.value if verdict else "",
        f"{verdict.value}: {verdict.reason}" if verdict else "",
    )


def _gain_cell(method: MethodResult) -> Cell:
    if method.delta_m is None:
        return Cell("")
    gain = method.delta_m
    return Cell(f"{numbers.signed(gain.mean)} {numbers.interval(gain.ci95)}".rstrip(), gain.mean)


def _verdict_cell(name: str, method: MethodResult) -> Cell:
    if method.verdict is None:
        return Cell("baseline" if name == "single" else "none yet")
    overall = method.verdict.overall
    return Cell(overall.value, None, SIGNS[overall.value], overall.value, overall.reason)


def _size_cells(method: MethodResult) -> list[Cell]:
    total = method.cost.total if method.cost else None
    sizes = (total.params, total.macs) if total else (None, None)
    return [Cell(numbers.count(s), s, title="" if s is None else f"{s:,}") for s in sizes]


def metric_rows(folder: Folder) -> list[tuple[str, str, str, str, str]]:
    """Every metric: method, task, metric, mean ± std, and the seeds one by one."""
    return [
        (
            name,
            task,
            numbers.label(metric),
            numbers.mean_std(metric, spread.mean, spread.std, spread.per_seed),
            ", ".join(numbers.score(metric, value) for value in spread.per_seed),
        )
        for name, method in folder.methods.items()
        for task, metrics in method.tasks.items()
        for metric, spread in metrics.items()
    ]


def reasons(folder: Folder) -> list[tuple[str, str, str, str]]:
    """The verdict on every task with its reason: method, task, value, reason."""
    return [
        (name, task, judgement.value, judgement.reason)
        for name, method in folder.methods.items()
        if method.verdict
        for task, judgement in method.verdict.tasks.items()
    ]


def _path_cells(path: PathCost | None) -> list[Cell]:
    """Parameters, MACs and latency of a path, in brackets what masks leave of them."""
    if path is None:
        return [Cell(numbers.ABSENT)] * 3
    sizes = (path.params, path.effective_params), (path.macs, path.effective_macs)
    cells = []
    for dense, effective in sizes:
        is_masked = effective is not None and effective < dense
        left = f" ({numbers.count(effective)})" if is_masked else ""
        cells.append(Cell(f"{numbers.count(dense)}{left}", dense, title=f"{dense:,}"))
    return [*cells, Cell(numbers.milliseconds(path.latency_ms), path.latency_ms)]


def cost_rows(folder: Folder) -> list[Row]:
    """Parameters, MACs and latency of each task's path, what everything takes together, against
    `single`, and training time."""
    single = folder.methods.get("single", MethodResult()).cost
    rows = []
    for name, method in folder.methods.items():
        if method.cost is None:
            continue
        cells = []
        for task in folder.tasks:
            cells += _path_cells(method.cost.tasks.get(task))
        cells += _size_cells(method)
        if folder.is_comparison:
            own, base = method.cost.total, single.total if single else None
            ratio = own.macs / base.macs if own and base and base.macs else None
            cells.append(Cell(numbers.times(ratio), ratio))
        seconds = _seconds(folder.runs[name], method)
        cells.append(Cell(numbers.duration(seconds), seconds))
        rows.append(Row(name, cells))
    return rows


def _seconds(runs: list[Run], method: MethodResult) -> float | None:
    found = [
        r.result.train_seconds for r in runs if r.result and r.result.train_seconds is not None
    ]
    return sum(found) / len(found) if found else method.train_seconds


def samples(folder: Folder) -> tuple[list[Sample], list[str]]:
    """Contact sheets, each picture once although many runs see the same; what was left out."""
    chosen = [
        (name, next((run.samples for run in runs if run.samples), []))
        for name, runs in folder.runs.items()
    ]
    return _pictures(chosen)


def activations(folder: Folder) -> tuple[list[Sample], list[str]]:
    """What the columns of each method make of an image of every task; what was left out."""
    return _plots(folder, "activations")


def alike(folder: Folder) -> tuple[list[Sample], list[str]]:
    """What the encoder of each method finds alike, by task; what was left out."""
    return _plots(folder, "alike")


def _plots(folder: Folder, kind: str) -> tuple[list[Sample], list[str]]:
    """The plots of a kind of each method, `KIND-<task>.png` of its first run that has some."""
    chosen = []
    for name, runs in folder.runs.items():
        found = [sorted((run.folder / "plots").glob(f"{kind}-*.png")) for run in runs]
        chosen.append((name, next(filter(None, found), [])))
    return _pictures(chosen, (f"{kind} ", ""))


def _pictures(
    chosen: list[tuple[str, list[Path]]], renamed: tuple[str, str] = ("", "")
) -> tuple[list[Sample], list[str]]:
    """The files of each method as pictures in the page, and those that were left out."""
    seen: set[str] = set()
    found: list[Sample] = []
    left_out: list[str] = []
    room = MOST_SAMPLE_BYTES
    for name, paths in chosen:
        for path in paths:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if digest in seen:
                continue
            seen.add(digest)
            where = f"{name}/{path.parent.parent.name}/{path.name}"
            if not content.startswith(PNG) or len(content) < 24:
                left_out.append(f"{where} is not a PNG file")
                continue
            if len(content) > room:
                left_out.append(f"{where} would make the page too large")
                continue
            room -= len(content)
            width, height = struct.unpack(">II", content[16:24])
            uri = "data:image/png;base64," + base64.b64encode(content).decode()
            caption = path.stem.replace("_", " ").replace("-", " ").replace(*renamed)
            found.append(Sample(caption, uri, width, height, name))
    return found, left_out


def trainings(folder: Folder) -> list[Training]:
    """Who trains what: labels, images seen, shared and own parameters, extra samples."""
    found = []
    for name, runs in folder.runs.items():
        run = next((run for run in runs if run.result), None)
        if run is None or run.result is None:
            continue
        result = run.result
        training = Training(name, f"{result.extra_samples:,}", _waiting(runs))
        for task in folder.tasks:
            labels = result.training_labels(task)
            shared, own = _parameters(folder.methods[name], task)
            cells = [
                ", ".join(_partners(folder.methods[name], task)) or "no other task",
                shared,
                own,
                f"{labels:,}" if labels is not None else numbers.ABSENT,
                f"{result.samples[task]:,}" if task in result.samples else numbers.ABSENT,
            ]
            training.tasks.append((task, cells))
        found.append(training)
    return found


def _partners(method: MethodResult, task: str) -> list[str]:
    """The tasks whose paths run a unit of this task's path too."""
    if method.cost is None or task not in method.cost.tasks:
        return []
    paths = method.cost.tasks
    own = {(u.name, u.owner) for u in paths[task].units if u.owner != task or "/" in u.name}
    return [
        other
        for other, path in paths.items()
        if other != task and any((u.name, u.owner) in own for u in path.units)
    ]


def _parameters(method: MethodResult, task: str) -> tuple[str, str]:
    """Parameters of the task's path that others run too, and that it alone runs."""
    if method.cost is None or task not in method.cost.tasks or not method.cost.tasks[task].units:
        return numbers.ABSENT, numbers.ABSENT
    paths = method.cost.tasks
    others = [(t, unit) for t, path in paths.items() if t != task for unit in path.units]
    elsewhere = {(u.name, u.owner) for t, u in others if u.owner != t or "/" in u.name}
    units = paths[task].units
    shared = sum(u.params for u in units if (u.name, u.owner) in elsewhere)
    own = paths[task].own_params
    if own is None:
        own = max(paths[task].params - shared, 0)
    return numbers.count(shared), numbers.count(own)


def _waiting(runs: list[Run]) -> str:
    """The share of training time that all finished seeds spent waiting for data."""
    pairs = [
        (run.result.waited_seconds, run.result.train_seconds)
        for run in runs
        if run.result and run.result.waited_seconds is not None and run.result.train_seconds
    ]
    return numbers.share(sum(w or 0 for w, _ in pairs), sum(t or 0 for _, t in pairs))


def health(folder: Folder) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(task, chance level, [(method, state)]) of every task whose state is known."""
    rows = []
    for task in folder.tasks:
        states = [
            (name, HEALTH.get(method.health[task], method.health[task]))
            for name, method in folder.methods.items()
            if task in method.health
        ]
        chance, metric = folder.chance(task), folder.primary(task)
        text = numbers.score(metric, chance) if metric and chance is not None else numbers.ABSENT
        if states:
            rows.append((task, text, states))
    return rows


def troubles(folder: Folder) -> list[tuple[str, str, str]]:
    """(task, state, methods) of tasks that do not learn, which no verdict should hide."""
    found: dict[tuple[str, str], list[str]] = {}
    for task, _, states in health(folder):
        for method, state in states:
            if state != HEALTH["learning"]:
                found.setdefault((task, state), []).append(method)
    return [(task, state, listed(methods)) for (task, state), methods in found.items()]


def failures(folder: Folder) -> list[tuple[str, str, str]]:
    """(method, seed, reason) of every run that did not finish for a known reason."""
    found = {(r.method, r.seed): r.error for r in folder.all_runs() if r.error}
    for name, method in folder.methods.items():
        for failure in method.failed:
            found.setdefault((name, str(failure.seed)), failure.reason)
    return [(method, seed, reason) for (method, seed), reason in found.items()]


def skipped(folder: Folder) -> list[str]:
    """How many images of each data set were unreadable and left out."""
    found: dict[str, list[str]] = {}
    for run in folder.all_runs():
        found |= run.result.skipped if run.result else {}
    return [
        f"{name}: {len(faults)} unreadable image(s)" for name, faults in found.items() if faults
    ]


def normalisation(folder: Folder) -> str:
    """How pixels are scaled, as the runs say it."""
    for run in folder.all_runs():
        if run.result and run.result.normalisation:
            return _words(run.result.normalisation)
    return ""


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_words, value)) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

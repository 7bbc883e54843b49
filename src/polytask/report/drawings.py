"""The figures of each section, drawn from a folder; none where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polytask.report import numbers
from polytask.report.confusions import confusion_figures
from polytask.report.figures.curves import curve_figure
from polytask.report.figures.gain import gain_figure
from polytask.report.figures.gates import gate_figure
from polytask.report.figures.impacts import impact_figure
from polytask.report.figures.pareto import Point, pareto_figure
from polytask.report.figures.sharing import sharing_figure
from polytask.report.figures.spread import spread_figure
from polytask.report.folder import Folder
from polytask.report.links import RatioTable, link_figures, ratio_table, shared_kernels
from polytask.report.palette import Look
from polytask.report.palette import looks as drawn_as


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption."""

    caption: str
    svg: str
    of: str = ""


def gain(folder: Folder, looks: Mapping[str, Look]) -> str:
    """The figure beside the verdict."""
    gains = {
        name: method.delta_m
        for name, method in folder.methods.items()
        if method.delta_m and numbers.known(method.delta_m.mean)
    }
    return gain_figure(gains, looks) if gains else ""


def pareto(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """Score against MACs: all tasks together, then the path of each."""
    figures = []
    metrics = folder.primaries
    overall = _overall_points(folder, metrics)
    if len(metrics) > 1 and len(overall) > 1:
        is_mean = all(map(numbers.is_percent, metrics.values()))
        label = "mean score, %" if is_mean else "mean gain over single-task, %"
        figures.append(Figure("All tasks", pareto_figure(overall, looks), label))
    for task, metric in metrics.items():
        points = []
        for name, method in folder.methods.items():
            spread = method.score(task, metric)
            path = method.cost.tasks.get(task) if method.cost else None
            if path is None or spread.mean is None or not numbers.known(spread.mean):
                continue
            std = numbers.scaled(metric, spread.std) if spread.std is not None else None
            points.append(Point(name, path.macs, numbers.scaled(metric, spread.mean), std))
        if len(points) > 1:
            percent = numbers.is_percent(metric)
            svg = pareto_figure(points, looks, "%" if percent else "", not percent)
            figures.append(Figure(task, svg, numbers.label(metric)))
    return figures


def _overall_points(folder: Folder, metrics: Mapping[str, str]) -> list[Point]:
    is_mean = all(map(numbers.is_percent, metrics.values()))
    points = []
    for name, method in folder.methods.items():
        if method.cost is None or method.cost.total is None:
            continue
        if is_mean:
            scores = [method.score(t, m).mean for t, m in metrics.items()]
            known = [100 * s for s in scores if s is not None and numbers.known(s)]
            score = sum(known) / len(known) if known and len(known) == len(scores) else None
        else:
            score = 0.0 if name == "single" else method.delta_m.mean if method.delta_m else None
        if score is not None and numbers.known(score):
            points.append(Point(name, method.cost.total.macs, score))
    return points


def spreads(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """Each task's score under every method, seed by seed."""
    figures = []
    for task, metric in folder.primaries.items():
        found = {name: m.score(task, metric) for name, m in folder.methods.items()}
        known = [x for s in found.values() for x in s.per_seed if numbers.known(x)]
        if len(known) > 1:
            svg = spread_figure(metric, found, looks, folder.chance(task))
            figures.append(Figure(task, svg))
    return figures


def curves(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """Each task's validation score by epoch."""
    figures = []
    for task in folder.tasks:
        metric = folder.primary(task) or _metric_in_rows(folder, task)
        if metric is None:
            continue
        found = {
            name: [c for c in (run.curve(task, metric) for run in runs) if c]
            for name, runs in folder.runs.items()
        }
        values = [x for seeds in found.values() for seed in seeds for x in seed.values()]
        if any(map(numbers.known, values)):
            svg = curve_figure(metric, found, looks, folder.chance(task))
            figures.append(Figure(task, svg, numbers.label(metric)))
    return figures


def impacts(folder: Folder) -> list[Figure]:
    """How far tasks move the shared weights under a temporal ensemble, and how much of it counts,
    of the first seed that tells."""
    figures = []
    for name, runs in folder.runs.items():
        found = ((run.seed, run.impacts()) for run in runs)
        seed, curves = next(((seed, found) for seed, found in found if found), ("", {}))
        for label, of in curves.items():
            glyphs = ", ".join(f"{look.glyph} {task}" for task, look in drawn_as(list(of)).items())
            caption = f"{label}, seed {seed}: {glyphs}"
            figures.append(Figure(name, impact_figure(name, label, of), caption))
    return figures


def _metric_in_rows(folder: Folder, task: str) -> str | None:
    """A run that has not finished names its metrics only in its rows."""
    for run in folder.all_runs():
        for row in run.rows:
            for key in row:
                if key.startswith(f"{task}/") and row.get("split") == "val":
                    return key.removeprefix(f"{task}/")
    return None


def sharing(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """The picture of sharing, a method each."""
    figures = []
    for name, runs in folder.runs.items():
        costs = [c for c in (folder.methods[name].cost, *(run.cost for run in runs)) if c]
        paths = next((c.tasks for c in costs if any(p.units for p in c.tasks.values())), None)
        if paths:
            units = {u.name.rpartition("/")[2] for path in paths.values() for u in path.units}
            found = (shared_kernels(run.folder / "plots", units) for run in runs)
            kernels = next((shares for shares in found if shares), None)
            figures.append(Figure(name, sharing_figure(paths, looks[name], kernels)))
    return figures


def filters(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """α, β and gates of the first seed that has them, by method and task."""
    figures = []
    for name, runs in folder.runs.items():
        run = next((run for run in runs if run.filters), None)
        if run is None or run.filters is None:
            continue
        for task, records in run.filters.tasks.items():
            for i, record in enumerate(records):
                tap = f", map {i + 1} of {len(records)}" if len(records) > 1 else ""
                svg = gate_figure(record, looks[name])
                figures.append(Figure(name, svg, f"{task}{tap}, seed {run.seed}"))
    return figures


def ratios(folder: Folder) -> list[tuple[str, str, RatioTable]]:
    """(method, seed, sharing ratios in numbers) of the first seed that has them."""
    found = []
    for name, runs in folder.runs.items():
        tables = ((run.seed, ratio_table(run.folder / "plots")) for run in runs)
        first = next(((seed, table) for seed, table in tables if table), None)
        if first is not None and first[1] is not None:
            found.append((name, first[0], first[1]))
    return found


def links(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """Stitch matrices, gates and sharing ratios of the first seed that has them, by method."""
    figures = []
    for name, runs in folder.runs.items():
        for run in runs:
            found = list(link_figures(run.folder / "plots", looks[name]))
            figures += [Figure(name, svg, f"{title}, seed {run.seed}") for title, svg in found]
            if found:
                break
    return figures


def confusions(folder: Folder, looks: Mapping[str, Look]) -> list[Figure]:
    """What classes are taken for, by method and task, all seeds together."""
    return [
        Figure(name, svg, title)
        for name in folder.runs
        for title, svg in confusion_figures(folder, name, looks[name])
    ]

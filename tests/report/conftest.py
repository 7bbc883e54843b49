"""Comparison and run folders as the trainer leaves them, with made-up but plausible numbers."""

import json
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

TASKS = ("read_handwriting", "read_print")
UNITS = ("conv1", *(f"layer{s}.{b}" for s in range(1, 5) for b in range(2)))
PARAMS = (464, *(p for p in (4672, 14528, 57728, 230144) for _ in range(2)))
MACS = (442_368, *(m for m in (4_718_592, 3_670_016, 3_670_016, 3_670_016) for _ in range(2)))
# Mean test accuracy of (task 1, task 2), spread over seeds.
LEVEL = {
    "single": (0.748, 0.861, 0.011),
    "hard": (0.751, 0.858, 0.012),
    "hard_filter": (0.779, 0.866, 0.008),
    "multi_exit": (0.771, 0.872, 0.009),
}
DELTA = {
    "hard": (0.2, -1.9, 2.3, "unclear"),
    "hard_filter": (2.4, 1.2, 3.6, "helps"),
    "multi_exit": (2.1, 0.4, 3.8, "helps"),
}


def paths_of(method: str, tasks: tuple[str, ...]) -> dict[str, Any]:
    """`tasks` of cost.json: the first task leaves after layer3 in multi_exit."""
    found = {}
    for number, task in enumerate(tasks):
        units: list[list[Any]] = []
        last = 7 if method == "multi_exit" and number == 0 else len(UNITS)
        for i, (unit, params, macs) in enumerate(zip(UNITS, PARAMS, MACS, strict=True)):
            if i >= last:
                break
            if method == "single":
                units.append([f"{task}/{unit}", task, params, macs])
            else:
                is_own = method == "multi_exit" and i >= 7
                units.append([unit, task if is_own else "shared", params, macs])
        if method in ("hard_filter", "multi_exit"):
            units.append(["filter", task, 2 * (64 if last == 7 else 128), 0])
        units.append(["head", task, 1290, 1280])
        found[task] = {
            "params": sum(u[2] for u in units),
            "macs": sum(u[3] for u in units),
            "bytes": 4 * sum(u[2] for u in units),
            "units": units,
        }
    return found


def cost_of(method: str, tasks: tuple[str, ...]) -> dict[str, Any]:
    paths = paths_of(method, tasks)
    once = {}
    for task, path in paths.items():
        for name, owner, params, macs in path["units"]:
            once[name if owner == "shared" else (task, name)] = (params, macs)
    total = {"params": sum(p for p, _ in once.values()), "macs": sum(m for _, m in once.values())}
    return {"total": total, "tasks": paths}


def contact_sheet(path: Path, draw: random.Random) -> None:
    cell, columns, rows = 32, 8, 4
    sheet = Image.new("RGB", (columns * cell, rows * cell), "white")
    for c in range(columns):
        for r in range(rows):
            colour = tuple(draw.randrange(256) for _ in range(3))
            sheet.paste(colour, (c * cell + 3, r * cell + 3, c * cell + 29, r * cell + 29))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def filters_of(tasks: tuple[str, ...], draw: random.Random) -> dict[str, Any]:
    record = {}
    for i, task in enumerate(tasks):
        centre = 0.5 + 0.12 * i
        gates = [min(max(draw.gauss(centre, 0.09), 0), 0.999) for _ in range(4000)]
        counts = [0] * 50
        for gate in gates:
            counts[int(gate * 50)] += 1
        record[task] = [
            {
                "alpha": [draw.gauss(0.1, 0.05) for _ in range(128)],
                "beta": [draw.gauss(0.25 * i, 0.1) for _ in range(128)],
                "gates": {"counts": counts, "mean": statistics.fmean(gates)},
            }
        ]
    return {"tasks": record}


def write_run(
    folder: Path, method: str, seed: int, tasks: tuple[str, ...] = TASKS, finished: bool = True
) -> dict[str, Any]:
    """A run folder; returns what result.json holds."""
    draw = random.Random(f"{method} {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    first, second, std = LEVEL.get(method, (0.7, 0.8, 0.01))
    level = dict(zip(tasks, (first, second) * len(tasks), strict=False))
    scores = {t: level[t] + draw.gauss(0, std) for t in tasks}
    (folder / "config.yaml").write_text("seeds: 3\ntrain:\n  epochs: 30\n", "utf-8")
    (folder / "cost.json").write_text(json.dumps(cost_of(method, tasks)), "utf-8")
    rows = []
    phases = [(f"single_{t}", (t,)) for t in tasks] if method == "single" else [("joint", tasks)]
    for phase, trained in phases:
        for epoch in range(1, 31 if finished else 13):
            losses = {f"loss/{t}": 2.3 * math.exp(-epoch / 9) for t in trained}
            row = {"phase": phase, "epoch": epoch, "step": 40 * epoch}
            rows.append({**row, "split": "train", "loss": sum(losses.values()), **losses})
            val = {
                f"{t}/accuracy": (
                    0.1
                    if t not in trained
                    else 0.1
                    + (scores[t] - 0.09) * (1 - math.exp(-epoch / 6))
                    + draw.gauss(0, 0.006)
                )
                for t in tasks
            }
            rows.append({**row, "split": "val", "loss": 0.5, **val, "seconds": 2.0 * epoch})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    sheets = random.Random("the same batches in every run")
    for task in tasks:
        safe = "".join(c if c.isalnum() else "_" for c in task)
        contact_sheet(folder / "samples" / f"{safe}_train.png", sheets)
    if method in ("hard_filter", "multi_exit"):
        (folder / "plots").mkdir(exist_ok=True)
        (folder / "plots" / "filters.json").write_text(json.dumps(filters_of(tasks, draw)), "utf-8")
    (folder / "log.txt").write_text("started\n", "utf-8")
    if not finished:
        return {}
    result = {
        "method": method,
        "seed": seed,
        "tasks": {t: {"accuracy": s, "mean_class_accuracy": s - 0.004} for t, s in scores.items()},
        "val": {t: {"accuracy": s + 0.006} for t, s in scores.items()},
        "primary": dict.fromkeys(tasks, "accuracy"),
        "chance": dict.fromkeys(tasks, 0.104),
        "health": dict.fromkeys(tasks, "learning"),
        "samples": dict.fromkeys(tasks, 42_000),
        "extra_samples": 0,
        "labels": {
            f"set of {t}": {
                split: {"images": count, "labels": {t: count}}
                for split, count in {"train": 62 if i == 0 else 1400, "val": 269}.items()
            }
            for i, t in enumerate(tasks)
        },
        "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "train_seconds": 61.5 + seed,
        "waited_seconds": 1.9,
    }
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    return result


def spread(values: list[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "per_seed": values}


def write_comparison(
    folder: Path,
    methods: tuple[str, ...] = tuple(LEVEL),
    seeds: int = 3,
    tasks: tuple[str, ...] = TASKS,
) -> dict[str, Any]:
    """A finished comparison; returns what results.json holds."""
    found: dict[str, Any] = {}
    for method in methods:
        runs = [write_run(folder / method / f"seed{k}", method, k, tasks) for k in range(seeds)]
        mean, low, high, value = DELTA.get(method, (0.0, -1.0, 1.0, "unclear"))
        shown = "no difference shown at 3 seeds: " if value == "unclear" else ""
        sign = "+" if mean >= 0 else "−"
        reason = f"{shown}{sign}{abs(mean)} % [{low}, {high}] over 3 seeds".replace("-", "−")
        judged = {"value": value, "reason": reason}
        found[method] = {
            "tasks": {
                t: {m: spread([r["tasks"][t][m] for r in runs]) for m in runs[0]["tasks"][t]}
                for t in tasks
            },
            "delta_m": None if method == "single" else {"mean": mean, "ci95": [low, high]},
            "verdict": None
            if method == "single"
            else {"overall": judged, "tasks": dict.fromkeys(tasks, judged)},
            "cost": cost_of(method, tasks),
            "health": dict.fromkeys(tasks, "learning"),
            "train_seconds": 62.5,
        }
    results = {
        "methods": found,
        "tasks": {t: {"primary": "accuracy", "chance": 0.104, "test_images": 270} for t in tasks},
        "config": {"tasks": {t: {"kind": "classification"} for t in tasks}, "seeds": seeds},
        "versions": {"python": "3.11.2", "polytask": "0.1.0", "torch": "2.15.0"},
    }
    (folder / "results.json").write_text(json.dumps(results), "utf-8")
    (folder / "config.yaml").write_text("seeds: 3\ntrain: {epochs: 30}\n", "utf-8")
    return results


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of four methods on two tasks with three seeds; only to be read."""
    folder = tmp_path_factory.mktemp("finished") / "digits"
    write_comparison(folder)
    return folder


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """A small finished comparison to take apart."""
    folder = tmp_path / "digits"
    write_comparison(folder, methods=("single", "hard_filter"), seeds=2)
    return folder


@pytest.fixture
def make_comparison() -> Callable[..., dict[str, Any]]:
    return write_comparison


@pytest.fixture
def make_run() -> Callable[..., dict[str, Any]]:
    return write_run

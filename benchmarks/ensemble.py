"""The temporal task ensemble: seconds of an epoch by number of processes, and what it holds.

A contender trains in a process of its own, on the CPU: its peak is that of the process (resident
memory of the first one), its seconds are those of the clock, which is what several processes save.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import Result, ratios
from polytask.config import read_config
from polytask.training.run import train_run

PROCESSES = [n for n in (1, 2, 4) if n <= max(2, os.cpu_count() or 1)]
TASKS: dict[str, Any] = {
    "turn": {"kind": "rotation", "data": "photos"},
    "tiles": {"kind": "jigsaw", "data": "photos", "grid": 2},
    "colour": {"kind": "colorization", "data": "photos"},
    "again": {"kind": "reconstruction", "data": "photos"},
}
TIMED = {
    "data": {"photos": {"source": "printed_digits", "count": 1000, "size": 32}},
    "backbone": {"name": "resnet18", "stem": "small", "width": 0.25},
    "train": {"epochs": 2, "batch": 128, "evaluate_every": 100},
}
MOSAIC = {"kind": "jigsaw", "data": "photos", "grid": 2, "mode": "mosaic"}
HELD = {
    "data": {"photos": {"source": "printed_digits", "count": 50, "size": 64, "fraction": 0.2}},
    "tasks": {**TASKS, "turn": MOSAIC, "tiles": MOSAIC},  # VGG-16 wants 32 pixels
    "backbone": {"name": "vgg16"},
    "train": {"epochs": 6, "batch": 8, "evaluate_every": 100},
}
UPDATES: dict[str, Any] = {
    "joint": "joint",
    "layers: pools": {"name": "temporal_ensemble", "norm_batches": 0},
    "layers: all": {"name": "temporal_ensemble", "norm_batches": 0, "layers": "all"},
}


def run(rounds: int | None) -> Iterator[Result]:
    """An epoch in one process against several, then the peaks of VGG-16."""
    update = UPDATES["layers: pools"]
    found: dict[int, list[float]] = {n: [] for n in PROCESSES}
    for _ in range(rounds or 3):
        for n in PROCESSES:
            found[n].append(contender(TIMED, update, n)["seconds"])
    for n in PROCESSES[1:]:
        work = f"ensemble: an epoch of 4 copies, {n} processes"
        yield Result(work, "one process, by the clock", ratios(found[n], found[1]))
    for name, update in UPDATES.items():
        peak = contender(HELD, update, 1)["bytes"] / 1e6
        yield Result(f"ensemble: peak, vgg16, 4 tasks, {name}", "", [peak], unit=" MB")


def contender(config: dict[str, Any], update: Any, devices: int) -> dict[str, float]:
    """Seconds of the last epoch and peak memory, from a process that trains."""
    method = {"hard": {"update": update}}
    given = {"tasks": TASKS, **config, "methods": [method], "seeds": 1}
    command = [sys.executable, "-m", "benchmarks.ensemble", json.dumps(given), str(devices)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, check=True, capture_output=True, env=environment)
    result: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return result


def main(text: str, devices: str) -> None:
    """Train what a contender is."""
    config = read_config(json.loads(text))
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "run"
        train_run(config, config.method("hard"), 0, folder, devices=int(devices))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    before, last = [row["seconds"] for row in rows if row["split"] == "train"][-2:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": last - before, "bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])

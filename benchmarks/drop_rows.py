"""Multi-exit with and without `drop_rows`: the time of a step against its multiply-accumulates.

Without it every image runs as deep as the deepest exit, whatever its labels.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.timing import Result, Target, alternate, ratios
from benchmarks.workload import TASKS, Workload
from polytask.cost import measure

EXITS = (("layer2", "layer3", "layer4"), ("layer1", "layer1", "layer4"))
LARGE = Workload(sets=3, side=64, batch=66)
SMALL = Workload(sets=3, side=32, batch=63, width=0.25, stem="small")
WORK = (("64 px, batch 66", LARGE, 8), ("¼ width, 32 px, batch 63", SMALL, 16))


def run(rounds: int | None) -> Iterator[Result]:
    """Time a step with and without; ratios are in multiples of the ratio of MACs."""
    for name, workload, usual in WORK:
        for exits in EXITS:
            options = {"exits": dict(zip(TASKS, exits, strict=True))}
            saving = workload.training("multi_exit", options)
            whole = workload.training("multi_exit", {**options, "drop_rows": False})
            seconds = alternate(
                {"saving": saving.turns(), "whole": whole.turns()}, rounds or usual, warm_up=1
            )
            macs = [task.macs for task in measure(saving.loop.method).tasks.values()]
            expected = sum(macs) / len(macs) / max(macs)
            found = ratios(seconds["saving"], seconds["whole"], expected)
            places = "/".join(exit.removeprefix("layer") for exit in exits)
            work = f"drop_rows: exits {places}, {name}"
            yield Result(work, f"without, × {expected:.2f} of MACs", found, Target(high=1.1))

"""Data sets with partial labels in one mixed pass against one pass per data set.

Both train hard sharing on the same rows and sizes; only batch-norm statistics differ (`norm`).
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.timing import Result, Target, alternate, ratios
from benchmarks.workload import Workload

ROUNDS = {15: 40, 63: 20, 255: 16}  # by images a step, which three data sets share equally


def run(rounds: int | None) -> Iterator[Result]:
    """Time the two for each batch size."""
    for batch, usual in ROUNDS.items():
        workload = Workload(sets=3, side=32, batch=batch, width=0.25, stem="small")
        mixed, apart = (workload.training("hard", norm=norm) for norm in ("mixed", "per_data"))
        seconds = alternate({"mixed": mixed.turns(), "apart": apart.turns()}, rounds or usual)
        found = ratios(seconds["mixed"], seconds["apart"])
        work = f"partial: one mixed pass, batch {batch}, ¼ width"
        yield Result(work, "a pass per data set", found, Target(high=1.05))

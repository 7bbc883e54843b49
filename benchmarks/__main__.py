"""`python -m benchmarks [NAME…] [--rounds N] [--json FILE]`: a table of ratios from one run."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.timing import Result
from polytask.training.run import prepare_process

NAMES = (
    "step",
    "balancers",
    "columns",
    "memory",
    "ensemble",
    "precision",
    "partial",
    "drop_rows",
    "path",
    "pipeline",
    "chunks",
    "startup",
)
COLUMNS = "{:48} {:34} {:>8} {:>8} {:>16} {:>6}  {}"


def main() -> None:
    """Run the named benchmarks, all by default, and print their results as they come."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, help="of every benchmark; each has its own default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figure")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    prepare_process()
    torch.set_num_threads(1)
    print(machine())
    print(COLUMNS.format("work", "against", "target", "median", "quartiles", "rounds", ""))
    results = []
    for result in measured(asked.names or NAMES, asked.rounds):
        print(row(result), flush=True)
        results.append(result)
    if asked.json:
        asked.json.write_text(json.dumps(document(results), indent=1) + "\n", "utf-8")


def measured(names: list[str] | tuple[str, ...], rounds: int | None) -> Iterator[Result]:
    """The results of the named benchmarks."""
    for name in names:
        yield from importlib.import_module(f"benchmarks.{name}").run(rounds)


def machine() -> str:
    """Where and with what the figures were made."""
    load = ", ".join(f"{x:.0f}" for x in os.getloadavg())
    return (
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores (load {load}), one thread"
    )


def row(result: Result) -> str:
    """A line of the table."""
    low, high = result.quartiles
    target = f"{result.target}{result.unit}" if result.target else ""
    return COLUMNS.format(
        result.work,
        result.against,
        target,
        f"{figure(result.median)}{result.unit}",
        f"{figure(low)} to {figure(high)}",
        len(result.found),
        result.verdict,
    ).rstrip()


def figure(value: float) -> str:
    """Three decimals of a ratio near 1, one of a larger one."""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def document(results: list[Result]) -> dict[str, object]:
    """Everything that was measured, JSON-able."""
    return {
        "machine": machine(),
        "results": [
            {
                "work": result.work,
                "against": result.against,
                "target": str(result.target) if result.target else None,
                "unit": result.unit.strip(),
                "median": result.median,
                "quartiles": result.quartiles,
                "verdict": result.verdict or None,
                "rounds": list(result.found),
            }
            for result in results
        ],
    }


if __name__ == "__main__":
    main()

"""What must answer at once: help, a config to start from, the bare import; none may load torch.

The only absolute figures of the benchmarks, because what is promised is one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks.timing import Result, Target, all_cpu, alternate, ratios

HEAVY = {"torch", "torchvision", "timm", "torchmetrics", "matplotlib", "sklearn"}
PROMISED = {
    "polytask --help": ["-m", "polytask", "--help"],
    "polytask compare --help": ["-m", "polytask", "compare", "--help"],
    "polytask init": ["-m", "polytask", "init", "shop.yaml"],
    "import polytask": ["-c", "import polytask"],
}
IMPORTS = {
    "ours": [
        "-c",
        "import polytask.training.run, polytask.sharing.build, polytask.backbones.resnet",
    ],
    "theirs": ["-c", "import torch, torchvision"],
}
ROUNDS = 10


def run(rounds: int | None) -> Iterator[Result]:
    """Processor seconds of fresh interpreters."""
    for work, arguments in PROMISED.items():
        check(work, arguments)
    seconds = timed(PROMISED, rounds or ROUNDS)
    for work in PROMISED:
        yield Result(f"startup: {work}", "no torch loaded", seconds[work], Target(high=0.5), " s")
    seconds = timed(IMPORTS, min(3, rounds or 3))
    found = ratios(seconds["ours"], seconds["theirs"])
    yield Result("startup: import of all that trains", "torch and torchvision", found)


def timed(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each command in each round."""
    contenders = {name: partial(start, arguments) for name, arguments in commands.items()}
    return alternate(contenders, rounds, warm_up=1, clock=all_cpu)


def start(arguments: list[str], *options: str) -> str:
    """Run Python in an empty folder; what it said on standard error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *options, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stderr


def check(work: str, arguments: list[str]) -> None:
    """Refuse to time what loads a heavy library."""
    lines = start(arguments, "-X", "importtime").splitlines()
    heavy = HEAVY.intersection(line.rpartition("|")[2].strip() for line in lines)
    if heavy:
        raise RuntimeError(f"{work} loads {', '.join(sorted(heavy))}")

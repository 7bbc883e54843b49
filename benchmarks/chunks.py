"""Images of an HDF5 file larger than the memory: chunk-shuffled reading against random rows.

The file lies in the system's cache of files, so that nobody waits for a disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.timing import Result, Target, alternate, ratios
from benchmarks.workload import Noise, load
from polytask.config.models import Config
from polytask.data.pack import pack
from polytask.data.pipeline import Data
from polytask.data.sources.hdf5 import Hdf5

BYTES = 100 << 20  # of images in the file
SIDES = (32, 128)
BATCH = 64
PART = 20  # random rows take so long that only one in so many is read
ROUNDS = 6


def run(rounds: int | None) -> Iterator[Result]:
    """Time the drawing of an epoch's images; figures are theirs over ours."""
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "noise.h5")
            noise = Noise(count=BYTES // (3 * side * side), side=side, columns=("label",))
            pack(Config(data={"images": noise}), path)
            source = Hdf5(source="hdf5", path=path)
            train = {"batch": BATCH, "memory": 0}
            _, _, data = load({"images": source}, {"label": "images"}, train=train)
            with h5py.File(path) as file:
                yield from _measured(data, file["images/image"], side, rounds or ROUNDS)


def _measured(data: Data, rows: Any, side: int, rounds: int) -> Iterator[Result]:
    order = data.mix().draws(0, data.seed, 0).index
    shuffled = np.random.default_rng(0).permutation(order)[: len(order) // PART]
    store = data.sets["images"].store
    contenders = {
        "chunks": lambda: [store.take(part) for part in _batches(order)],
        "rows": lambda: [rows[i] for i in shuffled],
        "batches": lambda: [rows[np.sort(part)] for part in _batches(shuffled)],
    }
    seconds = alternate(contenders, rounds, warm_up=1)
    work = f"HDF5 in chunks, {side} px: images a second"
    for theirs, against, target in (
        ("rows", "rows in random order", Target(low=10)),
        ("batches", "batches of random rows, sorted", None),
    ):
        yield Result(
            work, against, ratios(seconds[theirs], seconds["chunks"], expected=1 / PART), target
        )


def _batches(order: np.ndarray) -> Iterator[np.ndarray]:
    return (order[first : first + BATCH] for first in range(0, len(order), BATCH))

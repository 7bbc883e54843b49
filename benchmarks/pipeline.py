"""Batches of augmented small images: polytask's pipeline against torchvision and a DataLoader.

Workers are processes, so this one is timed by the clock on the wall too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.timing import Result, Target, all_cpu, alternate, ratios
from benchmarks.workload import Noise, load
from polytask.config.augment import Augment
from polytask.data.pipeline import Data
from polytask.data.prepare import CENTRED

IMAGES, SIDE, BATCH, WORKERS = 6400, 32, 128, 2
ROUNDS = 6


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10: arrays in memory; each is made a PIL image, then transformed."""

    def __init__(self, arrays: Any, labels: Sequence[int]) -> None:
        self.arrays, self.labels = arrays, labels
        self.transform = v2.Compose(
            [
                v2.RandomCrop(SIDE, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(CENTRED.mean, CENTRED.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[i])), self.labels[i]


def run(rounds: int | None) -> Iterator[Result]:
    """Time an epoch of both; figures are theirs over ours: how many times the images a second."""
    source = Noise(count=IMAGES, side=SIDE, columns=("label",), augment=Augment(flip=True, crop=4))
    _, _, data = load({"images": source}, {"label": "images"}, train={"batch": BATCH})
    read = source.read("images", Path())
    pictures = Pictures(read.images[:IMAGES], read.columns["label"][:IMAGES])
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=WORKERS)
    contenders = {"ours": lambda: ours(data), "theirs": lambda: theirs(loader)}
    for clock, name, target in (
        (time.perf_counter, "images a second", Target(low=10)),
        (all_cpu, "images a processor second", None),
    ):
        seconds = alternate(contenders, rounds or ROUNDS, warm_up=1, clock=clock)
        found = ratios(seconds["theirs"], seconds["ours"])
        work = f"pipeline: {name}"
        yield Result(work, f"torchvision and DataLoader, {WORKERS} workers", found, target)


def ours(data: Data) -> None:
    """One epoch of polytask's batches."""
    seen = sum(batch.images for batch in data.epoch(0))
    assert seen == IMAGES


def theirs(loader: DataLoader[tuple[Tensor, int]]) -> None:
    """One epoch of the DataLoader's."""
    seen = sum(len(labels) for _, labels in loader)
    assert seen == IMAGES

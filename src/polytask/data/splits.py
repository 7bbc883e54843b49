"""Which images train, validate and test: given, made or completed; and low-data fractions.

Made splits depend on an image's position and class alone, never on a run's seed or a data set's
name, so that every run is scored on the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.errors import DataError, Fault, capped
from polytask.randomness import counter_hash, stable_hash

if TYPE_CHECKING:
    from polytask.tasks.task import Labels


def read_splits(
    images: ImageSet,
    source: Source,
    labels: Mapping[str, Labels],
    classes: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, np.ndarray]:
    """Ascending positions of `train` (its fraction), `val` and `test`, checked for every task.

    Args:
        images: what the source read.
        source: its options: the shares of splits to make, and the fraction.
        labels: of each task of this data set, in the config's order.
        classes: class names of each task.
        seed: which images the fraction takes.

    Raises:
        DataError: a split is empty, or a class or task is left without training images.
    """
    strata = joint_strata(len(images), list(labels.values()))
    whole = complete_splits(images, source, strata)
    train = whole["train"]
    used = {**whole, "train": train[nested_fraction(strata[train], source.fraction, seed)]}
    faults = split_faults(images, labels, classes, whole, used)
    if faults:
        raise DataError(capped(faults))
    return used


def joint_strata(size: int, labels: Sequence[Labels]) -> np.ndarray:
    """One stratum an image, [size]: its class in the first task that labels it, −1 without any."""
    strata = np.full(size, -1)
    offset = 0
    for task in labels:
        if task.strata is None:
            continue
        mine = (strata < 0) & (task.strata >= 0)
        strata[mine] = task.strata[mine] + offset
        offset += int(task.strata.max(initial=-1)) + 1
    return strata


def complete_splits(images: ImageSet, source: Source, strata: np.ndarray) -> dict[str, np.ndarray]:
    """The splits as given; `val` and `test`, where missing, are carved out of `train`, stratified.

    Without any split all images count as `train`. A class keeps its share of each split to within
    one image, and at least one image in `train`. Images of one group stay together; what is said of
    images then holds for groups, the class of one being that of its first image.

    Raises:
        DataError: there is no `train`, a split is empty, or a group is in two given splits.
    """
    where, given = f"data.{images.name}", images.splits
    if given and "train" not in given:
        raise DataError.at(where, f"has only the splits {', '.join(given)}.", "Add train.")
    group = _groups(images)
    _check_groups(images, group)
    pool = given.get("train", np.arange(len(images)))
    wanted = {"test": source.test, "val": source.val}
    shares = {split: share for split, share in wanted.items() if split not in given}
    first = pool[np.unique(group[pool], return_index=True)[1]]
    chosen = _carve(first, strata[first], shares)
    parts = {split: pool[np.isin(group[pool], group[rows])] for split, rows in chosen.items()}
    splits = {**parts, **{split: rows for split, rows in given.items() if split != "train"}}
    empty = [s for s in SPLITS if not len(splits[s]) and (s != "val" or source.val)]
    if empty:
        counts = ", ".join(f"{split} {len(rows)}" for split, rows in splits.items())
        raise DataError(
            [
                Fault(
                    where,
                    f"split {split} is empty ({counts} of {len(images)} images).",
                    f"Add images, or change data.{images.name}.val and .test.",
                )
                for split in empty
            ]
        )
    return splits


def _groups(images: ImageSet) -> np.ndarray:
    """The number of each image's group, [N], an image without one being its own."""
    if images.groups is None:
        return np.arange(len(images))
    numbers: dict[object, int] = {}
    return np.array(
        [
            numbers.setdefault(i if cell is None else str(cell), len(numbers))
            for i, cell in enumerate(images.groups)
        ],
        dtype=int,
    )


def _check_groups(images: ImageSet, group: np.ndarray) -> None:
    if images.groups is None:
        return
    home: dict[int, tuple[str, int]] = {}
    faults = []
    for split, rows in images.splits.items():
        for i in rows.tolist():
            other, first = home.setdefault(int(group[i]), (split, i))
            if other != split:
                faults.append(
                    Fault(
                        images.place(i),
                        f"group {images.groups[i]} is in {split}, and in {other} at "
                        f"{images.place(first)}; expected one split.",
                    )
                )
    if faults:
        raise DataError(capped(faults))


def _carve(
    pool: np.ndarray, strata: np.ndarray, shares: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Split `pool` into the shares and `train`, the rest."""
    numbers, sizes = np.unique(strata, return_counts=True)
    rank = _rank(strata, counter_hash(stable_hash("split"), pool))
    group = np.searchsorted(numbers, strata)
    owner = np.full(len(pool), "train")
    left = sizes.copy()
    for split, share in shares.items():
        # Rounding the running total keeps the whole split at its share, however small the classes.
        reached = np.floor(np.cumsum(sizes) * share + 0.5)
        count = np.minimum(np.diff(reached, prepend=0).astype(int), left - 1)
        owner[(rank < left[group]) & (rank >= (left - count)[group])] = split
        left -= count
    return {split: np.sort(pool[owner == split]) for split in SPLITS}


def _rank(strata: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Each image's place within its stratum when ordered by key, from 0."""
    order = np.lexsort((keys, strata))
    ordered = strata[order]
    rank = np.empty(len(strata), dtype=int)
    rank[order] = np.arange(len(strata)) - np.searchsorted(ordered, ordered)
    return rank


def nested_fraction(strata: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Ascending positions of a share of the images, in each stratum the same.

    A class of n images keeps max(1, round(fraction · n)), images without a class (−1) keep
    round(fraction · n). For one seed a smaller fraction is part of every larger one.

    Args:
        strata: class of each image [N], −1 where it has none.
        fraction: 0 < fraction ≤ 1.
        seed: which images are kept.

    Source: Lee et al., "Multi-Task Learning with Task-Specific Feature Filtering in Low-Data
    Condition", Electronics 2021, §4 (uniform sampling per class). Nesting is our addition.
    """
    keys = counter_hash(stable_hash("fraction", seed), np.arange(len(strata)))
    numbers, sizes = np.unique(strata, return_counts=True)
    kept = np.array(
        [max(int(k >= 0), round(fraction * int(n))) for k, n in zip(numbers, sizes, strict=True)],
        dtype=int,
    )
    return np.flatnonzero(_rank(strata, keys) < kept[np.searchsorted(numbers, strata)])


def split_faults(
    images: ImageSet,
    labels: Mapping[str, Labels],
    classes: Mapping[str, Sequence[str]],
    whole: Mapping[str, np.ndarray],
    used: Mapping[str, np.ndarray],
) -> list[Fault]:
    """What keeps a task from learning: no training image at all, or none of one of its classes.

    `whole` are the splits before the fraction is taken, `used` those after.
    """
    faults = []
    for task, label in labels.items():
        where = f"data.{images.name}"
        found = {split: int(label.present[rows].sum()) for split, rows in used.items()}
        if not found["train"]:
            faults.append(
                Fault(
                    where,
                    f"no training image has a label of task {task} (labelled: {_counted(found)}).",
                    _way_out(images.name, int(label.present[whole["train"]].sum())),
                )
            )
        elif label.strata is not None:
            faults += [
                Fault(
                    where,
                    f'class "{classes[task][k]}" of task {task} has no training image '
                    f"({_counted(counts)}).",
                    _way_out(images.name, before),
                )
                for k, counts, before in _untrained(label.strata, whole, used)
            ]
    return faults


def _untrained(
    strata: np.ndarray, whole: Mapping[str, np.ndarray], used: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, dict[str, int], int]]:
    """Classes with images but none to train on: number, images a split, training images before."""
    size = int(strata.max(initial=-1)) + 1

    def count(rows: np.ndarray) -> np.ndarray:
        return np.bincount(strata[rows][strata[rows] >= 0], minlength=size)

    before = count(whole["train"])
    counts = {split: count(rows) for split, rows in used.items()}
    for k in np.flatnonzero((counts["train"] == 0) & (before + sum(counts.values()) > 0)):
        yield int(k), {split: int(c[k]) for split, c in counts.items()}, int(before[k])


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {n}" for split, n in counts.items())


def _way_out(name: str, before: int) -> str:
    if before:
        return f"The fraction leaves out all {before}: raise data.{name}.fraction."
    return "Move some of its images to train, or leave it out."

"""Read every label and image of a config's data, and tell what training would stumble over."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polytask.data.augment import draw_change, lost
from polytask.data.check_report import CheckReport, DataCheck, TaskCheck, split_columns
from polytask.data.duplicates import nearly_same, same_pixels
from polytask.data.images import SPLITS, ImageSet
from polytask.data.load import load_data, size_faults
from polytask.data.placing import placed
from polytask.data.prepare import Size
from polytask.data.scan import Scan, scan
from polytask.data.sheet import write_sheets
from polytask.data.source import Source
from polytask.data.splits import complete_splits, joint_strata, nested_fraction, split_faults
from polytask.errors import Fault, UserError, capped
from polytask.randomness import stable_hash

if TYPE_CHECKING:
    from polytask.config.models import Config
    from polytask.tasks.task import Labels, Task

FEW = 5  # training images of a class, below which a note says so
SHOWN = 5  # examples in a note


def check(config: Config, sheets: Path | None = None) -> CheckReport:
    """Check every data set of a config, those that no task uses included.

    Args:
        config: what to check; its first seed draws the fractions.
        sheets: a folder for pictures of a training batch with its labels, where there is no fault.
    """
    from polytask import tasks as kinds  # a task reads its labels itself

    tasks = kinds.build(config.tasks)
    report = CheckReport()
    for name, source in config.data.items():
        mine = {task: tasks[task] for task in tasks if tasks[task].data == name}
        found = _Check(config, name, source, mine)
        found.run()
        if found.result is not None:
            report.data[name] = found.result
        report.faults += placed(config, found.faults)
        report.notes += placed(config, found.notes)
    if sheets is not None and not report.faults:
        data = load_data(config, tasks, config.seeds[0])
        with contextlib.closing(data.epoch(0)) as batches:
            write_sheets(next(batches), tasks, data.normalisation, sheets)
    return report


class _Check:
    """The check of one data set: `result`, `faults` and `notes` fill as it runs."""

    def __init__(
        self, config: Config, name: str, source: Source, tasks: Mapping[str, Task]
    ) -> None:
        self.config, self.name, self.source, self.tasks = config, name, source, tasks
        self.where = f"data.{name}"
        self.result: DataCheck | None = None
        self.faults: list[Fault] = []
        self.notes: list[Fault] = []

    def run(self) -> None:
        try:
            images = self.source.load(self.name, self.config.folder)
        except UserError as error:
            self.faults += error.faults
            return
        labels = self._labels(images)
        splits = self._splits(images, labels)
        seen = scan(images)
        self._images(images, seen)
        if splits:
            used = splits.get("used", splits["train"])
            divided = replace(images, splits={**splits, "train": used})
            labels, size = self._fitted(divided, labels, seen)
            self._duplicates(images, seen, splits)
            self._lost(labels, used, size)
        else:
            labels, size = self._fitted(images, labels, seen)
        self.result = self._summary(images, seen, labels, splits)

    def _note(self, problem: str) -> None:
        self.notes.append(Fault(self.where, problem))

    def _labels(self, images: ImageSet) -> dict[str, Labels]:
        labels = {}
        for name, task in self.tasks.items():
            try:
                labels[name] = task.read_labels(images)
            except UserError as error:
                self.faults += error.faults
        return labels

    def _fitted(
        self, images: ImageSet, labels: Mapping[str, Labels], seen: Scan
    ) -> tuple[dict[str, Labels], Size]:
        """The labels on the images they belong to, of a size; those that do not fit are told."""
        readable = seen.sizes[seen.channels > 0, ::-1]
        if not len(readable):
            return dict(labels), (1, 1)
        first = (int(readable[0][0]), int(readable[0][1]))
        size = self.source.sides(self.config.image_size) or first
        own = seen.sizes[:, ::-1] if images.sizes is None else images.sizes
        fitted = {}
        for name, label in labels.items():
            try:
                fitted[name] = self.tasks[name].fit_labels(images, label, own, size)
            except UserError as error:
                self.faults += error.faults
                fitted[name] = label
        return fitted, size

    def _splits(self, images: ImageSet, labels: Mapping[str, Labels]) -> dict[str, np.ndarray]:
        """Positions by split, and `used` where a fraction of train is taken; none at a fault."""
        strata = joint_strata(len(images), list(labels.values()))
        try:
            whole = complete_splits(images, self.source, strata)
        except UserError as error:
            self.faults += error.faults
            return {}
        train, fraction = whole["train"], self.source.fraction
        kept = nested_fraction(strata[train], fraction, self.config.seeds[0])
        used = {**whole, "train": train[kept]}
        classes = {task: self.tasks[task].classes for task in labels}
        self.faults += capped(split_faults(images, labels, classes, whole, used))
        columns = {**whole, "used": used["train"]}
        return {column: columns[column] for column in split_columns(fraction)}

    def _images(self, images: ImageSet, seen: Scan) -> None:
        unreadable = list(seen.faults.values())
        if self.config.on_bad_image == "error":
            self.faults += capped(unreadable)
        elif unreadable:
            self._note(f"{len(unreadable)} images can't be read and are skipped.")
            self.notes += capped(unreadable)
        for change, rows in seen.changes.items():
            self._note(
                f"{_images(len(rows))}: {change} ({_some([images.place(i) for i in rows])})."
            )
        is_resized = self.source.sides(self.config.image_size) is not None
        if self.tasks and not is_resized and images.sizes is None:
            self.faults += size_faults(self.name, seen.sizes[seen.channels > 0, ::-1])

    def _lost(self, labels: Mapping[str, Labels], train: np.ndarray, size: Size) -> None:
        """Count what the first epoch's random changes leave nothing of."""
        for name, label in labels.items():
            augment = self.tasks[name].options.augment or self.source.augment
            rows = train[label.present[train]]
            if not (augment.crop or augment.warps) or not isinstance(label.value, dict):
                continue
            key = stable_hash(self.config.seeds[0], self.name, "augment", 0)
            change = draw_change(augment, key, rows, np.zeros_like(rows), size)
            boxes, lost_boxes, masks, lost_masks = lost(label.value, rows, change, size)
            for count, gone, what in (
                (boxes, lost_boxes, "boxes are left outside the image"),
                (masks, lost_masks, "masks are left without a pixel to learn"),
            ):
                if gone:
                    self._note(
                        f"task {name}: {gone} of {count} {what} by the first epoch's random "
                        "changes; they count for nothing there."
                    )

    def _duplicates(self, images: ImageSet, seen: Scan, splits: Mapping[str, np.ndarray]) -> None:
        owner = np.full(len(images), -1)
        for number, split in enumerate(SPLITS):
            owner[splits[split]] = number

        def shown(group: Sequence[int]) -> str:
            return " = ".join(f"{images.place(i)} ({SPLITS[owner[i]]})" for i in group[:SHOWN])

        same = same_pixels(seen.prints, owner)
        if same:
            self._note(
                f"pixel for pixel in more than one split: {_images(len(same))} "
                f"({_some([shown(group) for group in same])}). Scores on them say little."
            )
        near = nearly_same(seen.prints, owner)
        if near is None:
            self._note("too many images to look for near-duplicates across splits.")
        elif near:
            self._note(
                f"nearly the same picture in different splits: {len(near)} "
                f"pair{'' if len(near) == 1 else 's'} ({_some([shown(pair) for pair in near])})."
            )

    def _summary(
        self,
        images: ImageSet,
        seen: Scan,
        labels: Mapping[str, Labels],
        splits: Mapping[str, np.ndarray],
    ) -> DataCheck:
        sizes = seen.sizes[seen.channels > 0]
        sizes = sizes[np.argsort(sizes.prod(1), kind="stable")]
        small, middle, large = (
            (int(sizes[k][0]), int(sizes[k][1])) if len(sizes) else None
            for k in (0, len(sizes) // 2, -1)
        )
        return DataCheck(
            source=self.source.source,
            images=len(images),
            splits={split: len(rows) for split, rows in splits.items()},
            fraction=self.source.fraction,
            smallest=small,
            median=middle,
            largest=large,
            sizes=len(np.unique(sizes, axis=0)),
            grey=int((seen.channels == 1).sum()),
            unreadable=len(seen.faults),
            changed={change: len(rows) for change, rows in seen.changes.items()},
            tasks={task: self._task(task, labels[task], splits) for task in labels},
        )

    def _task(self, name: str, labels: Labels, splits: Mapping[str, np.ndarray]) -> TaskCheck:
        task = self.tasks[name]
        labelled = {split: int(labels.present[rows].sum()) for split, rows in splits.items()}
        counts = {split: class_counts(task.classes, labels, rows) for split, rows in splits.items()}
        classes = {
            label: {split: int(count[k]) for split, count in counts.items()}
            for k, label in enumerate(task.classes)
            if counts and len(counts["train"])
        }
        for split in ("val", "test"):
            if splits and len(splits[split]) and not labelled[split]:
                self._note(f"task {name}: no {split} image is labelled, so it has no score there.")
        self._class_notes(name, classes)
        return TaskCheck(task.kind, labelled, classes)

    def _class_notes(self, task: str, classes: Mapping[str, Mapping[str, int]]) -> None:
        absent = [label for label, count in classes.items() if not any(count.values())]
        few, untested = [], []
        for label, count in classes.items():
            training = count.get("used", count["train"])
            if label not in absent and training < FEW:
                few.append(f"{label} ({training})")
            if training and not count["test"]:
                untested.append(label)
        if absent:
            self._note(f"task {task}: no image of {_some(absent)}.")
        if few:
            self._note(f"task {task}: fewer than {FEW} images to train on of {_some(few)}.")
        if untested and len(untested) < len(classes):
            self._note(f"task {task}: no test image of {_some(untested)}.")


def class_counts(classes: Sequence[str], labels: Labels, rows: np.ndarray) -> np.ndarray:
    """Images of each class [K] among `rows`; where an image holds several, those with the class.

    Empty for tasks without classes.
    """
    if labels.strata is not None:
        known = labels.strata[rows]
        return np.bincount(known[known >= 0], minlength=len(classes))
    if labels.occurs is not None:
        return np.asarray(labels.occurs[rows].sum(0))
    return np.zeros(0, int)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + rest

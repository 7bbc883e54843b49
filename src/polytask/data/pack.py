"""From any data sets to one HDF5 file of their pixels and labels, which reads fast."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.data.chunked import chunk_length
from polytask.data.images import ImageSet
from polytask.data.load import size_faults
from polytask.data.packed import write_labels
from polytask.data.placing import placed
from polytask.data.prepare import Size
from polytask.data.source import Source
from polytask.data.splits import complete_splits, joint_strata
from polytask.data.store import THREADS, first_size, see_images
from polytask.errors import DataError, Fault, MissingExtra, UserError, capped

if TYPE_CHECKING:
    from polytask.config.models import Config
    from polytask.tasks.task import Task


OF_CONFIG = {"size", "fraction", "augment"}  # what the file does not hold


@dataclass(frozen=True)
class PackedSet:
    """What was written of a data set: images [N, C, H, W], places and reasons of those that could
    not be read and were left out, and what stands in a config in the data set's place."""

    name: str
    shape: tuple[int, ...]
    skipped: list[Fault]
    entry: dict[str, Any]


def pack(config: Config, file: Path) -> list[PackedSet]:
    """Write every data set of a config into `file`, each in a group of its name.

    Pictures are resized to the data set's `size` or the config's `image_size`; fractions and
    augmentation stay in the config; splits that the source leaves open are made. A run on the
    packed file gives the bits of a run on the original.

    Raises:
        UserError: the file exists, an image can't be read, or a label is wrong.
        MissingExtra: h5py is not installed.
    """
    from polytask import tasks as kinds

    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("polytask pack", "hdf5") from error
    if file.exists():
        raise UserError.at(str(file), "is there already.", "Remove it, or give another name.")
    if not file.parent.is_dir():
        raise UserError.at(str(file.parent), "is no folder; expected one to write the file into.")
    if not config.data:
        raise UserError.at(config.place("data"), "names no data set; expected one or more.")
    tasks = kinds.build(config.tasks)
    partial = file.with_name(f".{file.name}.partial")
    written = []
    try:
        with h5py.File(partial, "w") as out:
            for name, source in config.data.items():
                mine = [task for task in tasks.values() if task.data == name]
                written.append(_pack(config, name, source, mine, out.create_group(name), file))
        partial.rename(file)
    except DataError as error:
        raise DataError(placed(config, error.faults)) from error
    finally:
        partial.unlink(missing_ok=True)
    return written


def _pack(
    config: Config, name: str, source: Source, tasks: list[Task], group: Any, file: Path
) -> PackedSet:
    images = source.load(name, config.folder)
    # A wrong label is told before an hour of decoding.
    strata = joint_strata(len(images), [task.read_labels(images) for task in tasks])
    images = replace(images, splits=complete_splits(images, source, strata))
    every = np.arange(len(images))
    sides = source.sides(config.image_size)
    pixels = _Pixels(images, sides or first_size(images, every), is_resized=sides is not None)
    for channels in (1, 3):  # colour is found out by reading: grey sets are stored as such
        if pixels.write(group, channels):
            break
    faults = pixels.faults
    if faults and config.on_bad_image == "error":
        raise DataError(capped(list(faults.values())))
    kept = np.setdiff1d(every, list(faults))
    write_labels(group, images.subset(kept) if faults else images, source.group)
    entry: dict[str, Any] = {"source": "hdf5", "path": str(file.absolute()), "h5_group": name}
    entry |= source.model_dump(mode="json", include=OF_CONFIG, exclude_unset=True)
    if not len(images.splits["val"]):
        entry["val"] = 0  # none is to be made of what the original trains on
    return PackedSet(name, group["image"].shape, list(faults.values()), entry)


class _Pixels:
    """The images of a data set on their way into a file; `faults` are those that can't be read."""

    def __init__(self, images: ImageSet, size: Size, is_resized: bool) -> None:
        self.images, self.size, self.is_resized = images, size, is_resized
        self.faults: dict[int, Fault] = {}

    def write(self, group: Any, channels: int) -> bool:
        """Write pixels, sizes and digests; false, and nothing, where one has more channels."""
        count, self.faults = 0, {}
        shape = (len(self.images), channels, *self.size)
        length = min(chunk_length(shape), len(self.images))
        out = group.create_dataset(
            "image", shape, np.uint8, chunks=(length, *shape[1:]), maxshape=shape
        )
        every = np.arange(len(self.images))
        sizes, digests, block = [], [], []
        # Closed at once where colour turns up: what is not read yet need not be.
        with (
            ThreadPoolExecutor(THREADS) as threads,
            closing(see_images(self.images, every, [self.size], threads)) as seen_images,
        ):
            for i, seen in enumerate(seen_images):
                if isinstance(seen, Fault):
                    self.faults[i] = seen
                    continue
                if len(seen.pixels) > channels:
                    del group["image"]
                    return False
                block.append(np.broadcast_to(seen.pixels, shape[1:]))
                sizes.append(seen.size if self.images.sizes is None else self.images.sizes[i])
                digests.append(np.frombuffer(seen.digest, np.uint8))
                if len(block) == length:
                    count = _append(out, count, block)
        count = _append(out, count, block)
        if not count:
            raise DataError(capped(list(self.faults.values())))
        if not self.is_resized and self.images.sizes is None:
            faults = size_faults(self.images.name, np.array(sizes))
            if faults:
                raise DataError(faults)
        out.resize(count, axis=0)
        group.create_dataset("size", data=np.array(sizes, np.int64))
        group.create_dataset("digest", data=np.stack(digests))
        return True


def _append(out: Any, count: int, block: list[np.ndarray]) -> int:
    """Write a block of images behind the first `count`, empty it, and give the new count."""
    if block:
        out[count : count + len(block)] = np.stack(block)
    count += len(block)
    block.clear()
    return count

"""Data sets that torchvision reads: where they lie, what went wrong, and arrays as an image set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import Field

from polytask.data.files import locate
from polytask.data.images import ImageSet, consecutive
from polytask.data.source import Source
from polytask.errors import DataError, UserError

T = TypeVar("T")
HINT = "Unpack the published files there"


class TorchvisionSet(Source):
    """A set that torchvision can also fetch."""

    path: Path = Field(description="folder that torchvision unpacks into")
    download: bool = Field(False, description="fetch what is not there from the set's own site")

    def root(self, name: str, folder: Path) -> Path:
        """The folder; it need not exist yet where the set is to be fetched."""
        return (
            Path(folder, os.path.expanduser(self.path))
            if self.download
            else locate(name, self.path, folder)
        )

    def opened(self, root: Path, layout: str, read: Callable[[], T]) -> T:
        """What `read` makes of the set in `root`, whose files are in `layout`."""
        hint = "" if self.download else f"{HINT}, or set download: true."
        return opened(root, layout, read, hint)


def opened(root: Path, layout: str, read: Callable[[], T], hint: str) -> T:
    """What torchvision reads; whatever it stumbles over is told as a fault of the data.

    Raises:
        DataError: a file is missing or damaged, or is not the published one where torchvision has
            its checksum, as it does for every format that could run code.
    """
    try:
        return read()
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise anything from the readers
        reason = str(error).split("You can")[0].strip().rstrip(".") or type(error).__name__
        if isinstance(error, FileNotFoundError):
            reason = f"no file {error.filename}"
        problem = f"torchvision finds no complete set: {reason}; expected {layout}."
        raise DataError.at(str(root), problem, hint) from error


def stacked(
    name: str,
    root: Path,
    parts: Mapping[str, tuple[np.ndarray, Sequence[int]]],
    classes: Sequence[str],
) -> ImageSet:
    """One image set from (images, class numbers) of each split; a number below 0 is no label.

    Raises:
        DataError: images and labels are not equally many, or a number has no class.
    """
    for split, (images, labels) in parts.items():
        if len(images) != len(labels):
            problem = f"{split} has {len(images)} images and {len(labels)} labels."
            raise DataError.at(str(root), problem)
        if max(labels, default=0) >= len(classes):
            problem = f"{split} has the label {max(labels)}; expected 0 to {len(classes) - 1}."
            raise DataError.at(str(root), problem)
    return ImageSet(
        name,
        images=np.concatenate([images for images, _ in parts.values()]),
        columns={
            "class": [None if k < 0 else classes[k] for _, labels in parts.values() for k in labels]
        },
        splits=consecutive({split: len(images) for split, (images, _) in parts.items()}),
        places=[
            f"{root}: {split}[{i}]"
            for split, (images, _) in parts.items()
            for i in range(len(images))
        ],
        default_label="class",
        classes={"class": list(classes)},
    )

"""ImageNet: 1,281,167 photographs of the 1,000 classes of ILSVRC 2012.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from pydantic import Field

from polytask.data.files import locate
from polytask.data.images import ImageSet
from polytask.data.source import Source
from polytask.data.torchvision_set import opened
from polytask.errors import DataError, Fault

HINT = "Folders alone, without the development kit, are read by source: folder."


class ImageNet(Source):
    """Columns `class` and `wnid`. The published validation images are `test`.

    A folder with `train/<wnid>/`, `val/<wnid>/`, and ILSVRC2012_devkit_t12.tar.gz or the meta.bin
    that torchvision makes of it.
    """

    path: Path = Field(description="folder with train/, val/ and the development kit")

    def read(self, name: str, folder: Path) -> ImageSet:
        from torchvision import datasets

        root = locate(name, self.path, folder)
        missing = [part for part in ("train", "val") if not (root / part).is_dir()]
        if missing:  # torchvision would unpack whole archives here
            raise DataError(
                [
                    Fault(str(root), f"has no folder {part}/ with a folder a class.")
                    for part in missing
                ]
            )
        layout = "train/, val/ and ILSVRC2012_devkit_t12.tar.gz or meta.bin"
        train, val = (
            opened(root, layout, lambda part=part: datasets.ImageNet(root, part), HINT)  # type: ignore[misc]
            for part in ("train", "val")
        )
        if train.wnids != val.wnids:
            odd = sorted(set(train.wnids) ^ set(val.wnids))[0]
            raise DataError.at(str(root), f"{odd} is only in one of train/ and val/.")
        often = Counter(names[0] for names in train.classes)
        classes = [
            names[0] if often[names[0]] == 1 else f"{names[0]} {wnid}"  # two kinds of crane
            for names, wnid in zip(train.classes, train.wnids, strict=True)
        ]
        listed = [*train.samples, *val.samples]
        first = len(train.samples)
        return ImageSet(
            name,
            images=[Path(file) for file, _ in listed],
            columns={
                "class": [classes[k] for _, k in listed],
                "wnid": [train.wnids[k] for _, k in listed],
            },
            splits={"train": np.arange(first), "test": np.arange(first, len(listed))},
            places=[file for file, _ in listed],
            default_label="class",
            classes={"class": classes, "wnid": list(train.wnids)},
        )

"""Any images in a folder and below, or in a zip archive, without labels: for pretext tasks.

Source: your own files.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from polytask.data.files import find_images, locate, shown
from polytask.data.images import ImageSet
from polytask.data.source import Source


class Unlabelled(Source):
    """No columns; splits are made at random."""

    path: Path = Field(description="folder or zip archive")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        found = find_images(root)
        return ImageSet(
            name,
            images=[f.image for f in found],
            columns={},
            places=[shown(root, f) for f in found],
        )

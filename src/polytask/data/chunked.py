"""Images in a file on disk that is read a chunk of neighbours at a time, as HDF5 keeps them.

Reading one image costs as much as reading its whole chunk, so that images drawn at random read the
file many times over. Training draws them window by window instead: chunks come in random order, a
window of them at a time, and the images of a window are shuffled (`mixing.pass_order`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

WINDOW = 64  # chunks that training shuffles together
CHUNK_BYTES = 1 << 20  # of images in a chunk


def chunk_length(shape: tuple[int, ...]) -> int:
    """Images [N, …] of one byte a value that a chunk takes."""
    return max(1, CHUNK_BYTES // max(1, int(np.prod(shape[1:]))))


class ChunkedImages:
    """uint8 images of a data set in an HDF5 file: [N, H, W], [N, H, W, C], or [N, C, H, W] as they
    are packed (`channels_first`), which spares turning them for the network.

    Images are arrays [H, W, C]. Two windows of chunks stay in memory, enough to cross from one to
    the next. Image i is row `rows[i]` of the file's data set.
    """

    def __init__(
        self, path: Path, name: str, rows: Ints | None = None, channels_first: bool = False
    ) -> None:
        import h5py

        self.path, self.name, self.channels_first = path, name, channels_first
        self._data: Any = h5py.File(path, "r")[name]
        self.dtype: np.dtype[Any] = self._data.dtype
        self._own: tuple[int, ...] = self._data.shape
        self.rows = np.arange(self._own[0]) if rows is None else rows
        self.length = self._data.chunks[0] if self._data.chunks else chunk_length(self._own)
        self._chunks: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C], or what else the file holds."""
        count, own = len(self.rows), self._own[1:]
        if self.channels_first:
            return (count, *own[1:], own[0])
        return (count, *own, 1) if len(own) == 2 else (count, *own)

    @property
    def chunk_of(self) -> Ints:
        """The chunk of each image [N]."""
        return self.rows // self.length

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: Any) -> Any:
        """The image [H, W, C] numbered `i`; of an array of numbers, a part to read later."""
        if isinstance(i, np.ndarray):
            return ChunkedImages(self.path, self.name, self.rows[i], self.channels_first)
        (pixels,) = self.pixels(np.array([i]))
        return pixels.transpose(1, 2, 0)

    def pixels(self, index: Ints) -> Iterator[np.ndarray]:
        """The images numbered `index`, one after the other, [C, H, W]."""
        for row in self.rows[index].tolist():
            yield self._chunk(row // self.length)[row % self.length]

    def _chunk(self, number: int) -> np.ndarray:
        with self._lock:
            found = self._chunks.get(number)
            if found is None:
                found = self._data[number * self.length : (number + 1) * self.length]
                if not self.channels_first:
                    found = found if found.ndim == 4 else found[..., None]
                    found = np.ascontiguousarray(found.transpose(0, 3, 1, 2))
                self._chunks[number] = found
                if len(self._chunks) > 2 * WINDOW:
                    self._chunks.popitem(last=False)
            else:
                self._chunks.move_to_end(number)
            return found

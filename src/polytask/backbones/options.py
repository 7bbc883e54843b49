"""The options of every backbone, checked together so that all faults are told at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polytask.errors import Fault, UserError, one_of

STEMS = ("imagenet", "small")


@dataclass(frozen=True)
class Options:
    """What a backbone is built from.

    `channels`: of the images. `stem`: `small` starts with a 3×3 convolution of stride 1 and no
    pooling, for images of about 32×32. `width`: multiplies every number of channels. `pretrained`:
    the weights that the source library offers. `weights`: a file with the source library's keys.
    `open`: residual units (or stages, or `all`) opened into one unit per convolution. `size`:
    (height, width) of the images, where known; only position embeddings depend on it.
    """

    channels: int = 3
    stem: str = "imagenet"
    width: float = 1.0
    pretrained: bool = False
    weights: str | Path | None = None
    open: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    @classmethod
    def of(
        cls, *, open: str | Sequence[str] = (), size: Sequence[int] | None = None, **rest: object
    ) -> Options:
        """Options from plain values: `open` may be one name, `size` any pair.

        Raises:
            UserError: values that no backbone can have, all of them.
        """
        names = (open,) if isinstance(open, str) else tuple(open)
        pair = (int(size[0]), int(size[1])) if size else None
        options = cls(open=names, size=pair, **rest)  # type: ignore[arg-type]
        options.refuse(*options._faults())
        return options

    def _faults(self) -> list[Fault]:
        faults = []
        if self.channels < 1:
            faults.append(Fault("backbone.channels", f"got {self.channels}; expected 1 or more."))
        if self.stem not in STEMS:
            problem = f'got "{self.stem}"; expected {one_of(STEMS)}.'
            faults.append(Fault("backbone.stem", problem))
        if not (math.isfinite(self.width) and self.width > 0):
            problem = f"got {self.width}; expected a number above 0."
            faults.append(Fault("backbone.width", problem, "1 is the original width."))
        if self.pretrained and self.weights:
            problem = "given together with pretrained: true; the weights have one origin."
            faults.append(Fault("backbone.weights", problem, "Leave one of the two out."))
        if self.pretrained and self.width != 1:
            problem = f"got {self.width} with pretrained: true; those weights have width 1."
            faults.append(Fault("backbone.width", problem, "Leave out width or pretrained."))
        return faults

    @staticmethod
    def refuse(*faults: Fault | None) -> None:
        """Raise the faults that a family found in a combination, if any."""
        found = [fault for fault in faults if fault]
        if found:
            raise UserError(found)

    def scaled(self, channels: int) -> int:
        """A number of channels of the original network times the width, at least 1."""
        return max(1, round(channels * self.width))

    def only_all(self, name: str) -> Fault | None:
        """The fault of opening a network without residual units; `all` of none is fine."""
        if self.open in ((), ("all",)):
            return None
        problem = f"{name} has no residual units to open; got {', '.join(self.open)}."
        return Fault("backbone.open", problem, "Leave it out.")

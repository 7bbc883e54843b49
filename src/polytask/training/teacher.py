"""The backbone of a finished run as a teacher: fixed, and on images as its student sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polytask.backbones.staged import StagedBackbone, State
from polytask.data.prepare import Normalisation
from polytask.sharing.method import SharingMethod
from polytask.tasks.task import FeatureShape
from polytask.training.source import Source


class Teacher(nn.Module):
    """The fixed backbone of a run, on images as its student sees them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, method: SharingMethod, source: Source, normalisation: Normalisation) -> None:
        super().__init__()
        size = method.setting.input_of(next(iter(method.tasks)))
        self.encoder = source.encoder((size.height, size.width))
        own, theirs = normalisation, source.normalisation
        self.is_alike = own == theirs
        mean, std = (torch.tensor([n.mean, n.std]).view(2, 3, 1, 1) for n in (own, theirs))
        self.register_buffer("scale", mean[1] / std[1])
        self.register_buffer("shift", (mean[0] - std[0]) / std[1])

    def maps(self, images: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """The maps of the units `taps`, without a gradient."""
        with torch.no_grad():
            seen = images if self.is_alike else images * self.scale + self.shift
            return maps_of(self.encoder, seen, taps)

    def features(self, method: SharingMethod, task: str, taps: Sequence[str]) -> list[FeatureShape]:
        """The shapes of those maps for a task's images."""
        size = method.setting.input_of(task)
        shapes = self.encoder.shapes(3, size.height, size.width)
        return [FeatureShape(*shapes[unit]) for unit in taps]

    def last(self, count: int, is_dense: bool = False) -> list[str]:
        """The ends of the last `count` stages of a task that answers for every pixel, or per
        image."""
        return self.encoder.ends_until(self.encoder.end(is_dense))[-count:]


def maps_of(backbone: StagedBackbone, images: Tensor, taps: Sequence[str]) -> list[Tensor]:
    """The maps [B, C, H, W] of some units, in order."""
    state: State = images
    found: dict[str, Tensor] = {}
    for name, unit in backbone:
        state = unit(state)
        if name in taps:
            found[name] = backbone.feature(state)
        if len(found) == len(taps):
            break
    return [found[name] for name in taps]

"""Flow of solution procedure: the student's maps relate to one another as the teacher's do.

Source: Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning", CVPR 2017, eq. 1-3.

Differs from the paper: 1×1 convolutions bring the student's maps to the teacher's channels where
these differ (they serve training alone), and the larger map of a pair is max-pooled adaptively.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1e-12  # a teacher whose maps are 0 everywhere asks for nothing


def flow(first: Tensor, second: Tensor) -> Tensor:
    """G = F₁F₂ᵀ / (h·w) of maps [B, M, H, W] and [B, N, H', W'] → [B, M, N].

    The larger map is pooled to the smaller height and width.
    """
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    first, second = (_pooled(maps, size).flatten(2) for maps in (first, second))
    return first @ second.transpose(1, 2) / first.shape[2]


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else F.adaptive_max_pool2d(maps, size)


def fsp_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    is_relative: bool = False,
    over_processes: Callable[[Tensor], Tensor] = Tensor.clone,
) -> Tensor:
    """Σ λ ‖G_teacher − G_student‖²_F over successive pairs of maps, one value for each image [B].

    Both lists hold maps [B, C, H, W] with the same channels, from the images' side to the last; no
    gradient reaches the teacher. λ is 1; `is_relative` makes it 1 / the batch's mean ‖G_teacher‖²_F
    of the pair, so that maps of any size weigh alike; `over_processes` adds up what each process
    has of the batch.
    """
    total = student[0].new_zeros(len(student[0]))
    for i in range(len(student) - 1):
        wanted = flow(teacher[i].detach(), teacher[i + 1].detach())
        loss = (wanted - flow(student[i], student[i + 1])).square().sum((1, 2))
        if is_relative:
            sizes = wanted.square().sum((1, 2))
            size, count = over_processes(torch.stack([sizes.sum(), torch.ones_like(sizes).sum()]))
            loss = loss / (size / count.clamp(min=1)).clamp(min=LEAST)
        total = total + loss
    return total


class Adapters(nn.Module):
    """A 1×1 convolution for each map whose channels differ from the teacher's."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Identity() if own == wanted else nn.Conv2d(own, wanted, 1, bias=False)
            for own, wanted in zip(student, teacher, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps [B, C, H, W] with the teacher's channels."""
        return [layer(m) for layer, m in zip(self.layers, maps, strict=True)]


def taps_for(student: Sequence[str], teacher: Sequence[str], pairs: int) -> tuple[list[str], ...]:
    """The units whose maps are compared: the last ends of stages, as many as both have.

    `pairs` pairs need one map more; networks of fewer stages give fewer pairs.
    """
    count = min(pairs + 1, len(student), len(teacher))
    return list(student[-count:]), list(teacher[-count:])

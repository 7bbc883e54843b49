"""A trunk whose stages every task reads through masks of its own."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.by_hand import ByHand, enter, heads, trunk
from benchmarks.workload import TASKS, Workload


class Mtan(ByHand):
    """The first block of a stage makes the mask, with what the stage before let through."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        widths = [round(64 * 2**i * workload.width) for i in range(4)]
        self.between = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        )
        self.masks = nn.ModuleList(
            nn.ModuleList(mask(c if i == 0 else 2 * c, c) for i, c in enumerate(widths))
            for _ in TASKS
        )
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        net, maps = self.trunk, enter(self.trunk, images)
        stages = []
        for first, second in (net.layer1, net.layer2, net.layer3, net.layer4):
            inner = first(maps)
            maps = second(inner)
            stages.append((inner, maps))
        pairs = zip(self.masks, self.heads, strict=True)
        return [head(attended(stages, masks, self.between)) for masks, head in pairs]


def mask(inputs: int, channels: int) -> nn.Module:
    """What keeps a share of every value of a stage's map."""
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    )


def attended(
    stages: list[tuple[Tensor, Tensor]], masks: nn.ModuleList, between: nn.ModuleList
) -> Tensor:
    """What a task's masks let through of the last stage."""
    (inner, last), *later = stages
    found: Tensor = masks[0](inner) * last
    for (inner, last), own, carry in zip(later, list(masks)[1:], between, strict=True):
        carried = F.max_pool2d(carry(found), found.shape[-1] // inner.shape[-1])
        found = own(torch.cat([inner, carried], dim=1)) * last
    return found

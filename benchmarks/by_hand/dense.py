"""An outline, a box and a class of every image: networks with an answer for every pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import distance_box_iou_loss

from benchmarks.by_hand import ByHand, enter, trunk
from benchmarks.by_hand.attention import mask
from benchmarks.workload import BOX, CLASSES, Workload

DECODER = 32  # channels


class Scenes(ByHand):
    """What the dense networks have in common: their losses."""

    def measured(self, predictions: list[Tensor], labels: list[Any]) -> list[Tensor]:
        scores, boxes, logits = predictions
        outlines, framed, classes = labels
        size = framed["size"].repeat(1, 2)
        return [
            F.cross_entropy(scores, outlines["mask"], ignore_index=255),
            distance_box_iou_loss(boxes * size, framed["boxes"], reduction="mean"),
            F.cross_entropy(logits, classes),
        ]


class SegNet(Scenes):
    """The residual SegNet; boxes and classes leave after its encoder."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.net = ResidualSegNet(workload, decodes=True)
        self.outline = nn.Conv2d(3, 2, 3, padding=1)
        self.heads = scene_heads(self.net.widths[5])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        coded = through(self.net.down, images)
        box, label = self.heads
        scores = self.outline(through(self.net.up, coded))
        return [scores, edges(box(coded)), label(coded)]


class Stitched(Scenes):
    """A residual SegNet per task; after every stage each reads a mixture of the three."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.nets = nn.ModuleList(ResidualSegNet(workload, decodes=i == 0) for i in range(3))
        self.mixtures = nn.ParameterList(torch.zeros(3, 3) for _ in range(5))
        self.outline = nn.Conv2d(3, 2, 3, padding=1)
        self.heads = scene_heads(self.nets[0].widths[5])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        maps = [net.down[0](images) for net in self.nets]
        for stage, alpha in enumerate(self.mixtures, start=1):
            maps = [net.down[stage](m) for net, m in zip(self.nets, maps, strict=True)]
            rows = torch.stack([m.permute(0, 2, 3, 1) for m in maps])
            mixed = (alpha @ rows.flatten(1)).view(rows.shape)
            maps = list(mixed.permute(0, 1, 4, 2, 3))
        box, label = self.heads
        scores = self.outline(through(self.nets[0].up, maps[0]))
        return [scores, edges(box(maps[1])), label(maps[2])]


class AttendedSegNet(Scenes):
    """A residual SegNet whose stages and levels every task reads through masks of its own."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.net = ResidualSegNet(workload, decodes=True)
        widths = [*self.net.widths[1:], *self.net.widths[4::-1], 3]
        self.between = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in pairwise(widths)
        )
        self.masks = nn.ModuleList(
            nn.ModuleList(mask(c if i == 0 else 2 * c, c) for i, c in enumerate(widths[:count]))
            for count in (11, 5, 5)
        )
        self.outline = nn.Conv2d(3, 2, 3, padding=1)
        self.heads = scene_heads(self.net.widths[5])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        maps, stages = self.net.down[0](images), []
        for unit in (*self.net.down[1:], *self.net.up):
            maps = unit(maps)
            stages.append(maps)
        read = [self._attended(stages, own) for own in self.masks]
        box, label = self.heads
        return [self.outline(read[0]), edges(box(read[1])), label(read[2])]

    def _attended(self, stages: Sequence[Tensor], masks: nn.ModuleList) -> Tensor:
        found: Tensor = masks[0](stages[0]) * stages[0]
        for maps, own, carry in zip(stages[1:], list(masks)[1:], self.between, strict=False):
            carried, side = carry(found), maps.shape[-1]
            if side < found.shape[-1]:
                carried = F.max_pool2d(carried, found.shape[-1] // side)
            elif side > found.shape[-1]:
                carried = larger(carried, maps)
            found = own(torch.cat([maps, carried], dim=1)) * maps
        return found


class Pyramid(Scenes):
    """A ResNet-18; the outline is read from a light feature pyramid over its four stages."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        widths = [round(64 * 2**i * workload.width) for i in range(4)]
        self.lateral = nn.ModuleList(nn.Conv2d(c, DECODER, 1) for c in widths)
        self.smooth = nn.Conv2d(DECODER, DECODER, 3, padding=1)
        self.scores = nn.Conv2d(DECODER, 2, 1)
        self.heads = scene_heads(widths[3])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        maps = stages_of(self.trunk, images)
        *finer, merged = [layer(m) for layer, m in zip(self.lateral, maps, strict=True)]
        for inner in reversed(finer):
            merged = inner + larger(merged, inner)
        scores = self.scores(F.relu(self.smooth(merged)))
        box, label = self.heads
        return [larger(scores, images), edges(box(maps[3])), label(maps[3])]


class UNet(Scenes):
    """A ResNet-18 whose four stages a U-Net decoder joins from the last to the first."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        widths = [round(64 * 2**i * workload.width) for i in range(4)]
        carried = [widths[3], DECODER, DECODER]
        self.levels = nn.ModuleList(
            nn.Sequential(*convolved(a + b, DECODER), *convolved(DECODER, DECODER))
            for a, b in zip(carried, widths[2::-1], strict=True)
        )
        self.scores = nn.Conv2d(DECODER, 2, 3, padding=1)
        self.heads = scene_heads(widths[3])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        *finer, last = stages_of(self.trunk, images)
        joined = last
        for level, inner in zip(self.levels, reversed(finer), strict=True):
            joined = level(torch.cat([inner, larger(joined, inner)], dim=1))
        box, label = self.heads
        return [larger(self.scores(joined), images), edges(box(last)), label(last)]


class ResidualSegNet(nn.Module):
    """Stem and five stages down, six levels up."""

    def __init__(self, workload: Workload, decodes: bool) -> None:
        super().__init__()
        self.widths = [round(c * workload.width) for c in (16, 32, 64, 128, 256, 512)]
        stride = 1 if workload.stem == "small" else 2
        stem = nn.Sequential(*convolved(3, self.widths[0], stride))
        falling = [
            Block(a, nn.Sequential(*convolved(a, b), nn.MaxPool2d(2)))
            for a, b in pairwise(self.widths)
        ]
        self.down = nn.ModuleList([stem, *falling])
        rising = [*reversed(self.widths), 3] if decodes else []
        factors = [2] * 5 + [stride]
        self.up = nn.ModuleList(
            Block(a, enlarging(a, b, s))
            for (a, b), s in zip(pairwise(rising), factors, strict=False)
        )


class Block(nn.Module):
    """Two residual units that both add the block's input, and a change of size."""

    def __init__(self, channels: int, sampler: nn.Module) -> None:
        super().__init__()
        self.first = nn.Sequential(
            *convolved(channels, channels), *convolved(channels, channels)[:-1]
        )
        self.second = nn.Sequential(
            *convolved(channels, channels), *convolved(channels, channels)[:-1]
        )
        self.sampler = sampler

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.sampler(self.second(self.first(x) + x) + x)
        return changed


def convolved(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """A 3×3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def enlarging(inputs: int, outputs: int, factor: int) -> nn.Module:
    """A transposed convolution to so many times the size, batch norm, ReLU."""
    conv = nn.ConvTranspose2d(inputs, outputs, 3, factor, padding=1, output_padding=factor - 1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def scene_heads(channels: int) -> nn.ModuleList:
    """The layers of a box, which keep places apart, and of a class."""
    grid, hidden = BOX["grid"], BOX["hidden"]
    box = nn.Sequential(
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(),
        nn.Linear(channels * grid**2, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, 4),
    )
    label = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    return nn.ModuleList([box, label])


def edges(layers: Tensor) -> Tensor:
    """Boxes around a centre, as parts of the image."""
    centre, extent = layers.sigmoid().chunk(2, dim=1)
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=1)


def larger(maps: Tensor, like: Tensor) -> Tensor:
    """Maps as large as others."""
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def through(units: Iterable[nn.Module], maps: Tensor) -> Tensor:
    """Maps after all units."""
    for unit in units:
        maps = unit(maps)
    return maps


def stages_of(net: Any, images: Tensor) -> list[Tensor]:
    """The maps after the four stages of a ResNet."""
    found = [enter(net, images)]
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        found.append(stage(found[-1]))
    return found[1:]

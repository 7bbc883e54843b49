"""Trunks that tasks share or leave, and networks of a task's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.by_hand import ByHand, enter, heads, last_map, trunk
from benchmarks.workload import TASKS, Workload


class Hard(ByHand):
    """A trunk and three heads."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        maps = last_map(self.trunk, images)
        return [head(maps) for head in self.heads]


class Filtered(ByHand):
    """A trunk and three heads, each behind a gate per channel."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        channels = round(512 * workload.width)
        self.gates = nn.ParameterList(torch.zeros(channels, 1, 1) for _ in range(6))
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        maps = last_map(self.trunk, images)
        logits = []
        for i, head in enumerate(self.heads):
            alpha, beta = self.gates[2 * i], self.gates[2 * i + 1]
            logits.append(head(maps * torch.sigmoid(maps * alpha + beta)))
        return logits


class Single(ByHand):
    """Three networks, each on its own images."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunk(workload) for _ in TASKS)
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        parts = zip(self.trunks, self.heads, torch.split(images, counts), strict=True)
        return [head(last_map(net, own)) for net, head, own in parts]


class MultiExit(ByHand):
    """A trunk whose tasks leave after the second, third and last stage, with their images."""

    exits = ("layer2", "layer3", "layer4")

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.heads = heads(workload, [2, 4, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        net = self.trunk
        maps = net.layer2(net.layer1(enter(net, images)))
        first, maps = torch.split(maps, [counts[0], counts[1] + counts[2]])
        second, maps = torch.split(net.layer3(maps), counts[1:])
        read = (first, second, net.layer4(maps))
        return [head(own) for head, own in zip(self.heads, read, strict=True)]


class EarlyExit(ByHand):
    """A trunk that two of the tasks leave after its first stage, with their images."""

    exits = ("layer1", "layer1", "layer4")

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.heads = heads(workload, [1, 1, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        net = self.trunk
        first, second, maps = torch.split(net.layer1(enter(net, images)), counts)
        read = (first, second, net.layer4(net.layer3(net.layer2(maps))))
        return [head(own) for head, own in zip(self.heads, read, strict=True)]


class LayerLasso(ByHand):
    """A trunk whose last two blocks every task mixes by weights of its own, held small."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.mixtures = nn.ParameterList(torch.full((2,), 0.5) for _ in TASKS)
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        net = self.trunk
        first = net.layer4[0](net.layer3(net.layer2(net.layer1(enter(net, images)))))
        last = net.layer4[1](first)
        pairs = zip(self.heads, self.mixtures, strict=True)
        return [head(a[0] * first + a[1] * last) for head, a in pairs]

    def total(self) -> Any:
        return super().total() + 1e-3 * torch.stack([a.abs().sum() for a in self.mixtures]).sum()


class Mmoe(ByHand):
    """Three trunks, mixed for every image by a gate of each task on their pooled first maps."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunk(workload) for _ in range(3))
        first = round(64 * workload.width)
        self.gates = nn.ModuleList(nn.Linear(3 * first, 3) for _ in TASKS)
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        stems, maps = [], []
        for net in self.trunks:
            stem = net.relu(net.bn1(net.conv1(images)))
            stems.append(stem.mean((2, 3)))
            maps.append(net.layer4(net.layer3(net.layer2(net.layer1(net.maxpool(stem))))))
        read = torch.cat(stems, dim=1)
        logits = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            a, b, c = gate(read).softmax(1)[:, :, None, None, None].unbind(1)
            logits.append(head(a * maps[0] + b * maps[1] + c * maps[2]))
        return logits

"""polytask's networks as one writes them for a single experiment, in a bare PyTorch loop.

They take over the weights of a polytask method, so that both must give the same losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.workload import CLASSES, TASKS, Workload
from polytask.batch import Batch
from polytask.sharing.method import SharingMethod


class ByHand(nn.Module, ABC):
    """A network for three tasks and the loop that trains it."""

    def load(self, method: SharingMethod) -> None:
        """Take a method's weights, which stand in the same order, and an optimizer like its."""
        with torch.no_grad():
            for mine, other in zip(self.parameters(), method.parameters(), strict=True):
                mine.copy_(other)
        self.to(memory_format=torch.channels_last)
        self.losses: list[Any] = []
        self.optimizer = torch.optim.SGD(
            self.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4
        )

    @abstractmethod
    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        """Each task's logits; where every image has one label, `counts` images of each task."""

    def step(self, batch: Batch) -> None:
        """One update, with nothing that the mathematics does not ask for."""
        (group,) = batch.groups
        labels: list[Any] = [group.targets[task].value for task in TASKS]
        images = group.images.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad()
        predictions = self(images, [len(each) for each in labels])
        self.losses = [
            F.cross_entropy(logits, each) for logits, each in zip(predictions, labels, strict=True)
        ]
        (sum(self.losses) + self.penalty()).backward()
        self.optimizer.step()

    def penalty(self) -> Any:
        """What is added to the losses."""
        return 0


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

    def penalty(self) -> Any:
        return 1e-3 * torch.stack([a.abs().sum() for a in self.mixtures]).sum()


def trunk(workload: Workload) -> ResNet:
    """torchvision's ResNet-18 in the workload's width, with the stem for small images if asked."""
    net = ResNet(BasicBlock, [2, 2, 2, 2])
    channels = net.inplanes = round(64 * workload.width)
    net.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
    if workload.stem == "small":
        net.conv1, net.maxpool = nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.Identity()
    net.bn1 = nn.BatchNorm2d(channels)
    net.layer1 = net._make_layer(BasicBlock, channels, 2)
    net.layer2 = net._make_layer(BasicBlock, channels * 2, 2, stride=2)
    net.layer3 = net._make_layer(BasicBlock, channels * 4, 2, stride=2)
    net.layer4 = net._make_layer(BasicBlock, channels * 8, 2, stride=2)
    net.avgpool = net.fc = nn.Identity()
    return net


def enter(net: ResNet, images: Tensor) -> Tensor:
    """The map that `layer1` reads."""
    entered: Tensor = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    return entered


def last_map(net: ResNet, images: Tensor) -> Tensor:
    """The map after the last stage."""
    maps: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(enter(net, images)))))
    return maps


def heads(workload: Workload, factors: list[int]) -> nn.ModuleList:
    """Pool and classify; the maps have that many times the channels of the first stage."""
    first = 64 * workload.width
    return nn.ModuleList(
        nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(round(first * factor), CLASSES)
        )
        for factor in factors
    )

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
    """A network and the loop that trains it."""

    def load(self, method: SharingMethod) -> None:
        """Take a method's weights and an optimizer like its."""
        with torch.no_grad():
            for mine, other in self.pairs(method):
                mine.copy_(other)
        self.to(memory_format=torch.channels_last)
        self.losses: list[Any] = []
        self.optimizer = self.new_optimizer()

    def pairs(self, method: SharingMethod) -> list[tuple[Tensor, Tensor]]:
        """Weights that train, each with the method's own: by default all, in the same order."""
        return list(zip(self.parameters(), method.parameters(), strict=True))

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the benchmarks."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    @abstractmethod
    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        """Each task's prediction; where every image has one label, `counts` images of each task."""

    def step(self, batch: Batch) -> None:
        """One update, with nothing that the mathematics does not ask for."""
        (group,) = batch.groups
        labels: list[Any] = [group.targets[task].value for task in TASKS if task in group.targets]
        images = group.images.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad()
        predictions = self(images, [len(each) for each in labels])
        self.losses = self.measured(predictions, labels)
        self.go_back()
        self.optimizer.step()

    def go_back(self) -> None:
        """Leave gradients in the parameters."""
        self.total().backward()

    def measured(self, predictions: list[Tensor], labels: list[Any]) -> list[Tensor]:
        """The loss of each task."""
        pairs = zip(predictions, labels, strict=True)
        return [F.cross_entropy(logits, each) for logits, each in pairs]

    def total(self) -> Any:
        """What is minimised."""
        return sum(self.losses)


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

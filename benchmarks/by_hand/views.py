"""One trunk that every task sees in its own way: masked, narrower, adapted, with blocks skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from benchmarks.by_hand import ByHand, enter, heads, trunk
from benchmarks.workload import TASKS, Workload
from polytask.batch import Batch
from polytask.randomness import stable_hash
from polytask.sharing.method import SharingMethod


class PackNet(ByHand):
    """The second task learns in the weights that the first left free."""

    tasks = ("second",)
    capacities = (0.5, 0.8, 1.0)

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.heads = heads(workload, [8])

    def pairs(self, method: SharingMethod) -> list[tuple[Tensor, Tensor]]:
        own = [
            parameter
            for name, parameter in method.named_parameters()
            if not any(name.endswith(f"@{t}") or f"heads.{t}." in name for t in ("first", "third"))
        ]
        return list(zip(self.parameters(), own, strict=True))

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        owners = [owner for name, owner in method.named_buffers() if name.startswith("owner@")]
        layers = [m.weight for m in self.trunk.modules() if isinstance(m, nn.Conv2d)]
        self.first = [
            (weight, owner == 1, weight.detach().clone())
            for weight, owner in zip(layers, owners, strict=True)
        ]

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        net = self.trunk
        maps = net.layer4(net.layer3(net.layer2(net.layer1(enter(net, images)))))
        return [self.heads[0](maps)]

    def step(self, batch: Batch) -> None:
        super().step(batch)
        with torch.no_grad():
            for weight, is_first, value in self.first:
                weight.copy_(torch.where(is_first, value, weight))


class NestedNet(ByHand):
    """The tasks run half, three quarters and all of the channels, with norms of their own."""

    ratios = (0.25, 0.5625, 1.0)

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.heads = heads(workload, [4, 6, 8])
        norms = [m for m in self.trunk.modules() if isinstance(m, nn.BatchNorm2d)]
        self.statistics = [
            {
                norm: [torch.zeros(width), torch.ones(width)]
                for norm in norms
                if (width := self._first(norm.num_features, ratio))
            }
            for ratio in self.ratios
        ]

    @staticmethod
    def _first(channels: int, ratio: float) -> int:
        return round(channels * ratio**0.5)

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        return [self._narrow(images, i) for i in range(3)]

    def _narrow(self, images: Tensor, level: int) -> Tensor:
        def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
            outputs = self._first(layer.out_channels, self.ratios[level])
            weight = layer.weight[:outputs, : x.shape[1]]
            return F.conv2d(x, weight, None, layer.stride, layer.padding)

        def norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
            mean, var = self.statistics[level][layer]
            c = x.shape[1]
            return F.batch_norm(x, mean, var, layer.weight[:c], layer.bias[:c], training=True)

        logits: Tensor = self.heads[level](through(self.trunk, images, conv, norm))
        return logits

    def total(self) -> Any:
        return super().total() / 3


class Adapters(ByHand):
    """A frozen trunk; every task adds a matrix of rank 4 to each of its convolutions."""

    rank = 4

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload).requires_grad_(False)
        layers = [m for m in self.trunk.modules() if isinstance(m, nn.Conv2d)]
        self.places = {layer: i for i, layer in enumerate(layers)}
        matrices = [layer.weight.flatten(1) for layer in layers]
        self.low = nn.ModuleList(
            nn.ParameterList(
                p
                for matrix in matrices
                for p in (
                    torch.zeros(self.rank, matrix.shape[1]),
                    torch.zeros(matrix.shape[0], self.rank),
                )
            )
            for _ in TASKS
        )
        self.heads = heads(workload, [8, 8, 8])

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        pairs = zip(self.low, self.heads, strict=True)
        return [head(self._adapted(images, own)) for own, head in pairs]

    def _adapted(self, images: Tensor, own: nn.ParameterList) -> Tensor:
        def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
            down, up = own[2 * self.places[layer]], own[2 * self.places[layer] + 1]
            weight = layer.weight + (up @ down).view(layer.weight.shape)
            return F.conv2d(x, weight, None, layer.stride, layer.padding)

        def norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
            mean, var = layer.running_mean, layer.running_var
            return F.batch_norm(x, mean, var, layer.weight, layer.bias)

        return through(self.trunk, images, conv, norm)


class AdaShare(ByHand):
    """Every task runs a block with a drawn weight and skips it with the rest; weights learn."""

    epoch, temperature, cooling = 14, 5.0, 0.965

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunk = trunk(workload)
        self.policies = nn.ParameterList(torch.zeros(8, 2) for _ in TASKS)
        self.heads = heads(workload, [8, 8, 8])
        self.steps = 0

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.policies.requires_grad_(False)

    def drawn(self) -> list[Tensor]:
        """The weight of running each block, for each task [8]; polytask's own random numbers."""
        generator = torch.Generator().manual_seed(
            stable_hash(0, "policy", "search", self.epoch, self.steps)
        )
        noise = -torch.log(-torch.log(torch.rand(3, 8, 2, generator=generator)))
        temperature = self.temperature * self.cooling ** (self.epoch // 2)
        self.steps += 1
        pairs = zip(self.policies, noise, strict=True)
        return [((policy + each) / temperature).softmax(1)[:, 0] for policy, each in pairs]

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        stem = enter(self.trunk, images)
        found = []
        for weights, head in zip(self.drawn(), self.heads, strict=True):
            maps = stem
            for block, weight in zip(blocks(self.trunk), weights.unbind(), strict=True):
                skipped = maps if block.downsample is None else block.downsample(maps)
                ran = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(maps)), inplace=True)))
                maps = torch.lerp(skipped, F.relu(ran + skipped), weight)
            found.append(head(maps))
        return found


class AdaSharePolicies(AdaShare):
    """The same where policies learn and weights wait."""

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.requires_grad_(False)
        self.policies.requires_grad_(True)

    def new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.policies, lr=0.01, weight_decay=5e-4)

    def total(self) -> Any:
        probabilities = [policy.softmax(1)[:, 0] for policy in self.policies]
        running = sum(-policy.log_softmax(1)[:, 1].mean() for policy in self.policies)
        early = torch.arange(8, 0, -1) / 8
        a, b, c = probabilities
        apart = sum((early * (p - q).abs()).sum() for p, q in ((a, b), (a, c), (b, c)))
        return super().total() + 0.05 * running + 0.05 * apart


def through(
    net: ResNet,
    x: Tensor,
    conv: Callable[[nn.Conv2d, Tensor], Tensor],
    norm: Callable[[nn.BatchNorm2d, Tensor], Tensor],
) -> Tensor:
    """The map after the last stage, with other convolutions and norms than torch's."""
    x = net.maxpool(F.relu(norm(net.bn1, conv(net.conv1, x)), inplace=True))
    for block in blocks(net):
        out = F.relu(norm(block.bn1, conv(block.conv1, x)), inplace=True)
        out = norm(block.bn2, conv(block.conv2, out))
        if block.downsample is not None:
            x = norm(block.downsample[1], conv(block.downsample[0], x))
        out += x
        x = F.relu(out, inplace=True)
    return x


def blocks(net: ResNet) -> Iterator[Any]:
    """The residual blocks in order."""
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        yield from stage

"""Three trunks that see every image, their maps mixed after every stage; MTDA in closed form."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.by_hand import ByHand, enter, heads, trunk
from benchmarks.workload import TASKS, Workload
from polytask.sharing.method import SharingMethod

STAGES = ("layer1", "layer2", "layer3", "layer4")


class Linked(ByHand):
    """A trunk and a head for each task, with a link after every stage."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunk(workload) for _ in TASKS)
        self.add_links([round(64 * 2**i * workload.width) for i in range(len(STAGES))])
        self.heads = heads(workload, [8, 8, 8])

    @abstractmethod
    def add_links(self, widths: list[int]) -> None:
        """Make the links after stages of so many channels."""

    @abstractmethod
    def mixed(self, stage: int, maps: list[Tensor]) -> list[Tensor]:
        """The maps that the trunks go on with."""

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        del counts
        maps = [enter(net, images) for net in self.trunks]
        for i, stage in enumerate(STAGES):
            ran = [getattr(net, stage)(m) for net, m in zip(self.trunks, maps, strict=True)]
            maps = self.mixed(i, ran)
        return [head(own) for head, own in zip(self.heads, maps, strict=True)]


class CrossStitch(Linked):
    """Every new map is a weighted sum of all."""

    def add_links(self, widths: list[int]) -> None:
        self.alphas = nn.ParameterList(torch.zeros(3, 3) for _ in widths)

    def mixed(self, stage: int, maps: list[Tensor]) -> list[Tensor]:
        first, second, third = maps
        return [a * first + b * second + c * third for a, b, c in self.alphas[stage]]


class Nddr(Linked):
    """Every new map is a 1×1 convolution of all, normalised."""

    def add_links(self, widths: list[int]) -> None:
        self.links = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(3 * width, width, 1, bias=False),
                    nn.BatchNorm2d(width, momentum=0.05),
                    nn.ReLU(inplace=True),
                )
                for _ in TASKS
            )
            for width in widths
        )

    def mixed(self, stage: int, maps: list[Tensor]) -> list[Tensor]:
        joined = torch.cat(maps, dim=1)
        return [link(joined) for link in self.links[stage]]


class Gates(nn.Module):
    """What a link of SNR learns: a gate and a transformation for each pair of columns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(3, 3))
        self.weight = nn.Parameter(torch.zeros(3, width, 3, width))


class Snr(Linked):
    """Every new map is a sum of transformed ones, each through a hard concrete gate."""

    beta, gamma, zeta = 0.9, -0.1, 1.1

    def add_links(self, widths: list[int]) -> None:
        self.links = nn.ModuleList(map(Gates, widths))

    def load(self, method: SharingMethod) -> None:
        """Gates are those that the method has drawn: chance is not what is compared."""
        super().load(method)
        self.noises = [link.noise for link in method.links.values()]  # type: ignore[operator, union-attr]

    def mixed(self, stage: int, maps: list[Tensor]) -> list[Tensor]:
        link, u = self.links[stage], self.noises[stage]
        s = torch.sigmoid((u.log() - (-u).log1p() + link.log_alpha) / self.beta)
        gates = (s * (self.zeta - self.gamma) + self.gamma).clamp(0, 1)
        joined = torch.cat(maps, dim=1)
        kernels = (link.weight * gates[:, None, :, None]).flatten(2)  # [m, C, k·C]
        return [F.conv2d(joined, own[:, :, None, None]) for own in kernels]

    def total(self) -> Any:
        shift = self.beta * math.log(-self.gamma / self.zeta)
        gates = [torch.sigmoid(link.log_alpha - shift).sum() for link in self.links]
        return super().total() + 1e-4 * torch.stack(gates).sum()


def discriminant_logits(x: Tensor, labels: Tensor, dims: int, components: int) -> Tensor:
    """Features [n, D] to logits [n, classes]: principal components, discriminants, nearest mean."""
    raw, classes = x.double().numpy(), labels.numpy()
    raw = raw - raw.mean(axis=0)
    _, vectors = np.linalg.eigh(raw.T @ raw)
    placed = raw @ vectors[:, -components:]
    means = np.stack([placed[classes == c].mean(axis=0) for c in range(classes.max() + 1)])
    inside, apart = placed - means[classes], means[classes]
    within = inside.T @ inside / len(raw)
    within += 1e-3 * np.trace(within) / components * np.eye(components)
    _, directions = scipy.linalg.eigh(apart.T @ apart / len(raw), within)
    z, centers = placed @ directions[:, -dims:], means @ directions[:, -dims:]
    return torch.from_numpy(z @ centers.T - (centers**2).sum(axis=1) / 2)

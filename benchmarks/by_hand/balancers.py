"""The mathematics of balancers as one writes it for a single experiment, in a bare PyTorch loop.

Each trains the network of `Hard` on three tasks. Gradient aggregation goes back once a task over
the shared parameters and hands torchjd's rule the matrix of gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchjd import aggregation

from benchmarks.by_hand import last_map
from benchmarks.by_hand.trunks import Hard
from polytask.sharing.method import SharingMethod


class Fixed(Hard):
    """Constants."""

    weights = (1.0, 1.0, 1.0)

    def total(self) -> Any:
        return sum(w * x for w, x in zip(self.weights, self.losses, strict=True))


class Weighted(Fixed):
    """Weights that the losses of two epochs give: within an epoch they are constants (DWA)."""

    def total(self) -> Any:
        self.sums = [s + x.detach() for s, x in zip(self.sums, self.losses, strict=True)]
        return super().total()

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.sums = [torch.zeros(()) for _ in self.weights]


class Random(Hard):
    """A softmax of normal numbers in every step (Lin 2022)."""

    def total(self) -> Any:
        weights = len(self.losses) * torch.randn(len(self.losses)).softmax(0)
        return (weights * torch.stack(self.losses)).sum()


class Focal(Hard):
    """-(1 - k) log k, k the running accuracy in training (DTP, Guo 2018)."""

    discount, least = 0.1, 0.01

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.kpi: Tensor | None = None

    def measured(self, predictions: list[Tensor], labels: list[Any]) -> list[Tensor]:
        pairs = zip(predictions, labels, strict=True)
        hits = torch.stack([(x.argmax(1) == y).float().mean() for x, y in pairs])
        self.kpi = hits if self.kpi is None else torch.lerp(self.kpi, hits, self.discount)
        return super().measured(predictions, labels)

    def total(self) -> Any:
        assert self.kpi is not None
        kpi = self.kpi.clamp(min=self.least)
        return (-(1 - kpi) * kpi.log() * torch.stack(self.losses)).sum()


class Uncertainty(Hard):
    """Σ exp(−s) · L + s / 2, s learned (Kendall 2018)."""

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.s = [nn.Parameter(torch.zeros(())) for _ in self.heads]
        self.optimizer.add_param_group({"params": self.s, "weight_decay": 0.0})

    def total(self) -> Any:
        pairs = zip(self.s, self.losses, strict=True)
        return sum(torch.exp(-s) * x + s / 2 for s, x in pairs)


class GeometricMean(Hard):
    """The K-th root of the product of the losses."""

    def total(self) -> Any:
        return torch.stack(self.losses).log().mean().exp()


class GradNorm(Hard):
    """Weights moved down Σ |G − mean G · r^α| after each step (Chen 2018, alg. 1)."""

    alpha, lr = 1.5, 0.025

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.w = torch.ones(len(self.heads), requires_grad=True)
        self.first: Tensor | None = None

    def go_back(self) -> None:
        last = self.trunk.layer4[-1].conv2.weight
        losses = torch.stack(self.losses)
        values = losses.detach()
        self.first = values if self.first is None else self.first
        norms = torch.stack(
            [torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in self.losses]
        )
        (self.w.detach() * losses).sum().backward()
        scaled = self.w * norms
        rates = values / self.first
        aim = scaled.mean().detach() * (rates / rates.mean()) ** self.alpha
        (slope,) = torch.autograd.grad((scaled - aim).abs().sum(), self.w)
        with torch.no_grad():
            self.w -= self.lr * slope
            self.w *= len(self.heads) / self.w.sum()


class Aggregated(Hard):
    """A backward pass a task over what is shared, and a rule that makes one gradient of them."""

    rule: str
    arguments: Mapping[str, Any]

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.shared = list(self.trunk.parameters())
        self.aggregator = getattr(aggregation, self.rule)(**self.arguments)

    def go_back(self) -> None:
        rows = []
        for head, loss in zip(self.heads, self.losses, strict=True):
            own = list(head.parameters())
            found = torch.autograd.grad(loss, [*self.shared, *own], retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in found[: len(self.shared)]]))
            for parameter, gradient in zip(own, found[len(self.shared) :], strict=True):
                parameter.grad = gradient
        with torch.no_grad():
            vector = self.aggregator(torch.stack(rows))
        sizes = [parameter.numel() for parameter in self.shared]
        for parameter, part in zip(self.shared, vector.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)


class OnFeatures(Hard):
    """The same over the features that all heads read, then one pass through the trunk."""

    rule: str
    arguments: Mapping[str, Any]

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.aggregator = getattr(aggregation, self.rule)(**self.arguments)

    def forward(self, images: Tensor, counts: list[int]) -> list[Tensor]:
        self.maps = last_map(self.trunk, images)
        self.leaf = self.maps.detach().requires_grad_()
        return [head(self.leaf) for head in self.heads]

    def go_back(self) -> None:
        rows = []
        for loss in self.losses:
            loss.backward()
            assert self.leaf.grad is not None
            rows.append(self.leaf.grad.flatten())
            self.leaf.grad = None
        with torch.no_grad():
            vector = self.aggregator(torch.stack(rows))
        self.maps.backward(vector.view_as(self.maps))


def ruled(kind: type[Hard], rule: str, arguments: Mapping[str, Any]) -> type[Hard]:
    """A loop with one of torchjd's rules."""
    return type(rule, (kind,), {"rule": rule, "arguments": arguments})


RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "pcgrad": ("PCGrad", {}),
    "mgda": ("MGDA", {}),
    "cagrad": ("CAGrad", {"c": 0.5}),
    "imtl_g": ("IMTLG", {}),
    "nash_mtl": ("NashMTL", {"n_tasks": 3}),
    "aligned_mtl": ("AlignedMTL", {}),
    "upgrad": ("UPGrad", {}),
    "graddrop": ("GradDrop", {}),
    "fairgrad": ("FairGrad", {"alpha": 1.0}),
    "gradvac": ("GradVac", {}),
    "dualproj": ("DualProj", {}),
    "config": ("ConFIG", {}),
    "excess_mtl": ("ExcessMTL", {}),
    "pcd": ("PCD", {}),
}
BY_HAND: dict[str, type[Hard]] = {
    "equal": Hard,
    "fixed": Fixed,
    "random": Random,
    "dwa": Weighted,
    "uncertainty": Uncertainty,
    "dtp": Focal,
    "gradnorm": GradNorm,
    "geometric_mean": GeometricMean,
    "early_stopping": Fixed,  # until a task has peaked
    **{name: ruled(Aggregated, rule, given) for name, (rule, given) in RULES.items()},
}
ON_FEATURES = {name: ruled(OnFeatures, rule, given) for name, (rule, given) in RULES.items()}

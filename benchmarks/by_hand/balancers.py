"""The mathematics of balancers as one writes it for a single experiment, in a bare PyTorch loop.

Each trains the network of `Hard` on three tasks. Gradient aggregation goes back once a task over
the shared parameters and hands torchjd's rule the matrix of gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchjd import aggregation

from benchmarks.by_hand import last_map
from benchmarks.by_hand.trunks import Hard
from polytask.sharing.method import SharingMethod


class Weighted(Hard):
    """Weights that the losses of two epochs give: within an epoch they are constants (DWA)."""

    weights = (1.0, 1.0, 1.0)

    def total(self) -> Any:
        self.sums = [s + x.detach() for s, x in zip(self.sums, self.losses, strict=True)]
        return sum(w * x for w, x in zip(self.weights, self.losses, strict=True))

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.sums = [torch.zeros(()) for _ in self.weights]


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

    rule: Callable[[], Any]

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.shared = list(self.trunk.parameters())
        self.aggregator = self.rule()

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

    rule: Callable[[], Any]

    def load(self, method: SharingMethod) -> None:
        super().load(method)
        self.aggregator = self.rule()

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


def ruled(kind: type[Hard], rule: Callable[[], Any]) -> type[Hard]:
    """A loop with one of torchjd's rules."""
    return type(kind.__name__, (kind,), {"rule": staticmethod(rule)})


RULES: dict[str, Callable[[], Any]] = {
    "pcgrad": lambda: aggregation.PCGrad(),
    "mgda": lambda: aggregation.MGDA(),
    "cagrad": lambda: aggregation.CAGrad(c=0.5),
    "imtl_g": lambda: aggregation.IMTLG(),
    "aligned_mtl": lambda: aggregation.AlignedMTL(),
}
BY_HAND: dict[str, type[Hard]] = {
    "equal": Hard,
    "dwa": Weighted,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
    "geometric_mean": GeometricMean,
    **{name: ruled(Aggregated, rule) for name, rule in RULES.items()},
}
ON_FEATURES = {name: ruled(OnFeatures, rule) for name, rule in RULES.items()}

"""Sub-network routing: gates, open or shut, choose which columns feed which after every stage.

Source: Ma et al., "SNR: Sub-Network Routing for Flexible Parameter Sharing in Multi-task Learning",
AAAI 2019, eq. 2; gates after Louizos et al., "Learning Sparse Neural Networks through L0
Regularization", ICLR 2018, eq. 10-12.

Differs from the paper: columns of convolutions instead of layers of perceptrons, so that a
transformation is a 1×1 convolution, which starts as the identity; a column's own gate starts open
and the others nearly shut, so that columns start almost as single networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.batch import Batch
from polytask.loss import Term
from polytask.randomness import stable_hash
from polytask.sharing.columns.link import Link, weighed_sums
from polytask.sharing.columns.linked import LinkedColumns, LinkedOptions
from polytask.sharing.method import Outputs


class SnrOptions(LinkedOptions):
    """What passes through the gates, and how they are drawn."""

    mode: Literal["trans", "aver"] = Field(
        "trans", description="trans: maps are transformed on their way; aver: summed as they are"
    )
    own: float = Field(4.0, description="initial log α of the gate of a column's own map")
    others: float = Field(-4.0, description="initial log α of the gates of other columns' maps")
    l0: float = Field(1e-4, ge=0, description="weight of the expected number of open gates")
    beta: float = Field(0.9, gt=0, description="temperature of the gates")
    gamma: float = Field(-0.1, lt=0, description="where the stretched gates begin")
    zeta: float = Field(1.1, gt=1, description="where the stretched gates end")


@dataclass(frozen=True)
class HardConcrete:
    """Gates in [0, 1] that are often exactly 0 or 1, and differentiable between."""

    beta: float
    gamma: float
    zeta: float

    def drawn(self, log_alpha: Tensor, noise: Tensor) -> Tensor:
        """The gates that uniform `noise` in (0, 1) gives."""
        logit = torch.log(noise) - torch.log1p(-noise)
        return self._stretched(torch.sigmoid((logit + log_alpha) / self.beta))

    def settled(self, log_alpha: Tensor) -> Tensor:
        """The gates of a trained network."""
        return self._stretched(torch.sigmoid(log_alpha))

    def openness(self, log_alpha: Tensor) -> Tensor:
        """The probability that a drawn gate is not 0."""
        return torch.sigmoid(log_alpha - self.beta * math.log(-self.gamma / self.zeta))

    def _stretched(self, s: Tensor) -> Tensor:
        return (s * (self.zeta - self.gamma) + self.gamma).clamp(0, 1)


class Routing(Link):
    """Sums the columns' maps, each through its gate and, with `weight`, a 1×1 convolution.

    `log_alpha` is [m, k] for m new maps of k columns, `weight` [m, C, k, C]: the convolution of
    column j's map in new map i is `weight[i, :, j]`.
    """

    noise: Tensor

    def __init__(self, gate: HardConcrete, log_alpha: Tensor, weight: Tensor | None) -> None:
        super().__init__()
        self.gate = gate
        self.log_alpha = nn.Parameter(log_alpha)
        self.weight = None if weight is None else nn.Parameter(weight)
        self.register_buffer("noise", torch.full_like(log_alpha, 0.5), persistent=False)

    def gates(self) -> Tensor:
        """The gate [m, k] of each column's map in each new map."""
        if self.training:
            return self.gate.drawn(self.log_alpha, self.noise)
        return self.gate.settled(self.log_alpha)

    def forward(self, maps: Sequence[Tensor], outputs: Sequence[int]) -> list[Tensor]:
        chosen = list(outputs)
        gates = self.gates()[chosen]
        if self.weight is None:
            return weighed_sums(gates, maps)
        weight = self.weight[chosen] * gates[:, None, :, None]
        weight = weight.flatten(2).flatten(0, 1)[:, :, None, None]  # [m·C, k·C, 1, 1]
        return list(F.conv2d(torch.cat(list(maps), dim=1), weight).chunk(len(chosen), dim=1))

    def narrowed(self, outputs: Sequence[int]) -> Routing:
        chosen = list(outputs)
        weight = None if self.weight is None else self.weight.detach()[chosen]
        return Routing(self.gate, self.log_alpha.detach()[chosen], weight)


class Snr(LinkedColumns):
    """Every link decides by gates which columns a column listens to.

    Gates are drawn once a step, from the seed, the phase and the step; a trained network has the
    settled ones, with which batch norms learn their statistics anew before the network is scored.
    """

    Options = SnrOptions
    options: SnrOptions

    def make_link(self, channels: int, columns: Sequence[str]) -> Link:
        options, count = self.options, len(columns)
        start = torch.full((count, count), options.others).fill_diagonal_(options.own)
        weight = None
        if options.mode == "trans":
            weight = torch.eye(channels)[:, None].repeat(count, 1, count, 1)
        return Routing(HardConcrete(options.beta, options.gamma, options.zeta), start, weight)

    def routings(self) -> dict[str, Routing]:
        """The links by name."""
        return dict(self.links.items())  # type: ignore[arg-type]

    def explained(self) -> dict[str, Any]:
        gates = {n: r.gate.settled(r.log_alpha).tolist() for n, r in self.routings().items()}
        return {"links": {"columns": list(self.columns), "gates": gates}}

    def otherwise_in_use(self) -> list[nn.Module]:
        return [self]

    def before_forward(self, run: Any) -> None:
        when = (run.seed, "gates", run.phase.name, run.epoch, run.step_in_epoch)
        for name, link in self.routings().items():
            generator = torch.Generator().manual_seed(stable_hash(*when, name))
            noise = torch.rand(link.noise.shape, generator=generator)
            link.noise.copy_(noise.clamp(1e-6, 1 - 1e-6))

    def extra_losses(self, batch: Batch, outputs: Outputs) -> list[Term]:
        del batch, outputs
        if not self.options.l0:
            return []
        expected = [r.gate.openness(r.log_alpha).sum() for r in self.routings().values()]
        return [Term("l0", None, gates, self.options.l0) for gates in expected]

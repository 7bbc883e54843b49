"""The temporal task ensemble: copies of the shared weights, one a task, become one again.

Source: Kim, Lee, Song, ICCV Workshops 2019, eq. 7 to 9.
Differs from the paper: differences keep their signs (as printed, weights can only grow); the
coefficients, whose rules are in a supplement that is not public, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polytask.config.update import TemporalEnsemble

RATIOS = (0.5, 2.0)  # bounds of a loss over that of the epoch before
SMALLEST = 1e-12


@dataclass(frozen=True)
class Ensemble:
    """The weights after an epoch [P], and what made them: β, and α and impact μ by task [K]."""

    weights: Tensor
    alpha: Tensor
    impact: Tensor
    beta: float


def canberra(first: Tensor, last: Tensor) -> Tensor:
    """(a − b) / (|a| + |b|), element by element; 0 where both are 0. Its size is at most 1."""
    scale = first.abs() + last.abs()
    return (first - last) / torch.where(scale == 0, 1.0, scale)


def loss_ratios(now: Sequence[float], before: Sequence[float]) -> Tensor:
    """Each task's loss over that of the epoch before [K], from ½ to 2."""
    pairs = zip(now, before, strict=True)
    ratios = [n / b if b > 0 else 1.0 for n, b in pairs]
    return torch.tensor(ratios, dtype=torch.float64).clamp(*RATIOS)


def coefficients(rule: str, ratios: Tensor, impact: Tensor, temperature: float = 1.0) -> Tensor:
    """α [K], positive with sum 1, from the losses' ratios [K] and the tasks' impacts [K]."""
    if rule == "uniform":
        return torch.full_like(ratios, 1 / len(ratios))
    logits = torch.zeros_like(ratios)
    if rule in ("loss_ratio", "loss_ratio_over_impact"):
        logits = logits + ratios / temperature
    if rule in ("inverse_impact", "loss_ratio_over_impact"):
        logits = logits - impact.clamp(min=SMALLEST).log()
    return logits.softmax(0)


def combine(
    before: Tensor,
    copies: Tensor,
    ratios: Tensor,
    order: tuple[int, int],
    how: TemporalEnsemble,
) -> Ensemble:
    """φᵗ = φᵗ⁻¹ + Σ_k α_k Δ_k + β Δ_o of weights φᵗ⁻¹ [P] and copies φ_k [K, P].

    Δ_k = φ_k − φᵗ⁻¹, whose mean size is task k's impact μ_k; Δ_o is the Canberra difference of the
    copies of the `order`'s first and last task. β is β₀ · the spread of the impacts, in units of
    the mean size of the ensemble's step. `literal` takes the sizes of all differences.
    """
    changes = copies - before
    impact = changes.abs().double().mean(1)
    alpha = coefficients(how.coefficients, ratios.to(impact), impact, how.temperature)
    apart = canberra(copies[order[0]], copies[order[1]])
    step = (alpha.to(changes) @ changes) if len(copies) > 1 else changes[0]
    share = impact / impact.sum().clamp(min=SMALLEST)
    spread = float((share - 1 / len(copies)).abs().sum()) / 2
    mean_apart = float(apart.abs().double().mean())
    mean_step = float(step.abs().double().mean())
    beta = how.task_gradient * spread * mean_step / mean_apart if mean_apart else 0.0
    if how.literal:
        step, apart = alpha.to(changes) @ changes.abs(), apart.abs()
    return Ensemble(before + step + beta * apart, alpha, impact, beta)

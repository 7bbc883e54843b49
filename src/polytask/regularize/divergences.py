"""How far two distributions are from one another: seven measures, natural logarithm.

Source: the metrics of Kim, Lee, Song, table 5; Cover and Thomas, "Elements of Information Theory",
2006 (Kullback–Leibler, Jensen–Shannon); Gibbs and Su, "On Choosing and Bounding Probability
Metrics", 2002 (Hellinger, χ², Wasserstein).

Each takes distributions p and q [..., C] and gives [...]. Entries are clamped to 1e-8 and divided
by their sum first, so that none is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Divergence: TypeAlias = Callable[[Tensor, Tensor], Tensor]
LEAST = 1e-8
UNDER_ROOT = 1e-12  # a root's gradient stays finite where p = q


def safe(p: Tensor) -> Tensor:
    """The distribution without zeros."""
    clamped = p.clamp(min=LEAST)
    return torch.divide(clamped, clamped.sum(-1, keepdim=True))


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Σ p log(p / q)."""
    p, q = safe(p), safe(q)
    return (p * (p / q).log()).sum(-1)


def reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    """Σ q log(q / p)."""
    return kl(q, p)


def jsd(p: Tensor, q: Tensor) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½ (p + q); at most log 2."""
    p, q = safe(p), safe(q)
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def hellinger(p: Tensor, q: Tensor) -> Tensor:
    """(½ Σ (√p − √q)²)^½, from 0 to 1."""
    apart = (safe(p).sqrt() - safe(q).sqrt()).square().sum(-1) / 2
    return torch.sqrt(apart + UNDER_ROOT) - math.sqrt(UNDER_ROOT)


def jeffrey(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) + KL(q ‖ p)."""
    return kl(p, q) + kl(q, p)


def chi2(p: Tensor, q: Tensor) -> Tensor:
    """Σ (p − q)² / q."""
    p, q = safe(p), safe(q)
    return ((p - q).square() / q).sum(-1)


def wasserstein(p: Tensor, q: Tensor) -> Tensor:
    """Σ |Σ_{i≤c} (p_i − q_i)| / (C − 1): the way mass goes along the channels, from 0 to 1.

    Without the divisor it is the first Wasserstein distance for channels one apart.
    """
    ahead = (safe(p) - safe(q)).cumsum(-1)
    moved: Tensor = ahead.abs().sum(-1) / max(1, p.shape[-1] - 1)
    return moved


DIVERGENCES: dict[str, Divergence] = {
    "kl": kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
    "hellinger": hellinger,
    "jeffrey": jeffrey,
    "chi2": chi2,
    "wasserstein": wasserstein,
}


def entropy(p: Tensor) -> Tensor:
    """−Σ p log p [...]."""
    p = safe(p)
    return -(p * p.log()).sum(-1)

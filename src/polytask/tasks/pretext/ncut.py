"""The soft normalised cut of a segmentation: how weakly its segments hang together.

Source: Shi and Malik, "Normalized Cuts and Image Segmentation", PAMI 2000; the soft form of Xia and
Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017, eq. 2 to 4.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

INTENSITY = 10.0  # σ_I, on values from 0 to 255
SPACE = 4.0  # σ_X, in pixels
RADIUS = 5.0  # pixels this far apart or farther have no edge


@cache
def nearness(height: int, width: int, sigma: float = SPACE, radius: float = RADIUS) -> Tensor:
    """exp(−‖X_u − X_v‖²/σ²) of all pairs of pixels [N, N], 0 at the radius and beyond."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).double()
    apart = torch.cdist(places, places)
    return torch.where(apart < radius, (-apart.square() / sigma**2).exp(), 0.0)


@torch.no_grad()
def affinity(images: Tensor, sigma: float = INTENSITY) -> Tensor:
    """Weights w_uv [B, N, N] of the edges between the pixels of images [B, C, H, W]."""
    values = images.flatten(2).transpose(1, 2)
    alike = (-torch.cdist(values, values).square() / sigma**2).exp()
    return alike * nearness(*images.shape[-2:]).to(alike)


def soft_ncut(segments: Tensor, weights: Tensor) -> Tensor:
    """J [B] of segments P [B, K, N], which sum to 1 over K, for edges w [B, N, N].

    J = K − Σ_k (Σ_u P_k(u) Σ_v w_uv P_k(v)) / (Σ_u P_k(u) Σ_v w_uv); 0 ≤ J < K.
    """
    inside = ((segments @ weights) * segments).sum(-1)
    around = (segments * weights.sum(-1)[:, None]).sum(-1)
    return segments.shape[1] - (inside / around.clamp(min=1e-12)).sum(1)

"""Deep embedded clustering: soft assignment to centres, the sharper target it learns, and scores.

Source: Xie, Girshick, Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016,
eq. 1-3; accuracy is that of the best one-to-one matching of clusters and classes.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from polytask.tasks.task import FeatureShape

LEAST = 1e-12
CELLS = 4  # the embedding reads a grid of so many cells a side
RECALLS = (1, 5, 10)


def soft_assignment(z: Tensor, centres: Tensor, alpha: float = 1.0) -> Tensor:
    """q [B, K] ∝ (1 + ‖z − μ‖² / α)^(−(α + 1) / 2) of points [B, D] and centres [K, D] (eq. 1)."""
    apart = (z[:, None] - centres).square().sum(-1)
    return F.normalize((1 + apart / alpha) ** (-(alpha + 1) / 2), p=1, dim=1)


def target_distribution(q: Tensor) -> Tensor:
    """p [N, K] ∝ q² / f, f being each cluster's sum over the images at hand (eq. 3)."""
    return F.normalize(q.square() / q.sum(0).clamp(min=LEAST), p=1, dim=1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row [B] (eq. 2)."""
    return (p * (p.clamp(min=LEAST) / q.clamp(min=LEAST)).log()).sum(1)


class Clusters(nn.Module):
    """[B, C, H, W] → the embedding z [B, D] and its soft assignment q [B, K]."""

    def __init__(self, feature: FeatureShape, width: int, clusters: int) -> None:
        super().__init__()
        cells = (min(CELLS, feature.height), min(CELLS, feature.width))
        self.embed = nn.Sequential(
            nn.AdaptiveAvgPool2d(cells),
            nn.Flatten(),
            nn.Linear(feature.channels * cells[0] * cells[1], width),
        )
        self.centres = nn.Parameter(torch.randn(clusters, width))

    def forward(self, feature: Tensor) -> dict[str, Tensor]:
        z = self.embed(feature)
        return {"z": z, "q": soft_assignment(z, self.centres)}


class Decoder(nn.Module):
    """z [B, D] → the image, at most 32 pixels a side, [B, 3 · H · W]: it serves training alone."""

    def __init__(self, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = (min(size[0], 32), min(size[1], 32))
        pixels = 3 * self.size[0] * self.size[1]
        self.layers = nn.Sequential(
            nn.Linear(width, 256), nn.ReLU(inplace=True), nn.Linear(256, pixels)
        )

    def loss(self, z: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of each image [B]."""
        wanted = images
        if tuple(images.shape[2:]) != self.size:
            wanted = F.adaptive_avg_pool2d(images, self.size)
        apart: Tensor = self.layers(z) - wanted.flatten(1)
        return apart.square().mean(1)


def matched_accuracy(found: np.ndarray, classes: np.ndarray) -> float:
    """The share of images whose cluster is matched with their class, at best."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((found.max() + 1, classes.max() + 1), int)
    np.add.at(counts, (found, classes), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(found))


def recall_at(z: Tensor, classes: Tensor, nearest: int) -> float:
    """The share of images with one of their class among the nearest others by cosine."""
    unit = F.normalize(z.float(), dim=1)
    alike = (unit @ unit.T).fill_diagonal_(-torch.inf)
    found = classes[alike.topk(min(nearest, len(z) - 1), dim=1).indices]
    return float((found == classes[:, None]).any(1).float().mean())


class ClusterScores(Metric):
    """`nmi` (arithmetic), `ari`, `accuracy` and `recall_1`, `recall_5`, `recall_10`.

    Updated with a prediction of `Clusters` and the classes [B], −1 where unknown.
    """

    full_state_update = False
    z: list[Tensor]
    found: list[Tensor]
    classes: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("z", "found", "classes"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, prediction: dict[str, Tensor], classes: Tensor) -> None:
        """Keep the embeddings and clusters of some images whose class is known."""
        known = classes >= 0
        self.z.append(prediction["z"][known])
        self.found.append(prediction["q"][known].argmax(1))
        self.classes.append(classes[known])

    def compute(self) -> dict[str, Tensor]:
        """Scores of all images together; 0 of fewer than two."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        z, found, classes = (
            torch.cat(part) if isinstance(part, list) else cast(Tensor, part)
            for part in (self.z, self.found, self.classes)
        )
        names = ["nmi", "ari", "accuracy", *(f"recall_{k}" for k in RECALLS)]
        if len(z) < 2:
            return dict.fromkeys(names, torch.zeros(()))
        said, true = found.cpu().numpy(), classes.cpu().numpy()
        scores = [
            normalized_mutual_info_score(true, said),
            adjusted_rand_score(true, said),
            matched_accuracy(said, true),
            *(recall_at(z, classes, k) for k in RECALLS),
        ]
        return {name: torch.tensor(float(s)) for name, s in zip(names, scores, strict=True)}

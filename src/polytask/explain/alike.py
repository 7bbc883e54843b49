"""What an encoder finds alike: nearest neighbours, clusters, and all images on a plane.

Features are the maps that a task's head reads, averaged over places. Only tasks that learn without
labels are shown: of others, their scores tell it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polytask.batch import Batch
from polytask.data.prepare import Normalisation
from polytask.data.sheet import as_pixels
from polytask.sharing.method import SharingMethod
from polytask.tasks.clustering import Clustering
from polytask.tasks.task import PretextTask

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 160  # images of a task
ROWS, NEAREST = 6, 7  # images that are asked about, and those shown beside each
CELL, GAP, SIDE = 40, 4, 480  # pixels: an image, a gap, the plane
COLOURS = 128


def neighbours(features: np.ndarray) -> np.ndarray:
    """The numbers [N, N − 1] of all other images, the nearest by cosine first."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    order: np.ndarray = np.argsort(-likeness, axis=1, kind="stable")[:, :-1]
    return order


def on_plane(features: np.ndarray) -> np.ndarray:
    """Places [N, 2] from 0 to 1: the first two principal components, each from least to most."""
    from sklearn.decomposition import PCA

    found = PCA(2, svd_solver="full").fit_transform(features)
    least, most = found.min(0), found.max(0)
    places: np.ndarray = (found - least) / np.maximum(most - least, 1e-12)
    return places


def rows_of_neighbours(features: np.ndarray) -> list[list[int]]:
    """Images spread over all, each with those nearest to it."""
    order = neighbours(features)
    asked = np.linspace(0, len(features) - 1, min(ROWS, len(features))).round().astype(int)
    return [[i, *order[i, :NEAREST].tolist()] for i in asked.tolist()]


def rows_of_clusters(shares: np.ndarray) -> list[list[int]]:
    """The images surest to be in each cluster, by shares [N, K]; empty clusters are left out."""
    chosen = shares.argmax(1)
    found = []
    for cluster in range(shares.shape[1]):
        members = np.flatnonzero(chosen == cluster)
        surest = members[np.argsort(-shares[members, cluster], kind="stable")]
        found.append(surest[: NEAREST + 1].tolist())
    return [row for row in found if row]


def sheet(pixels: list[np.ndarray], rows: list[list[int]], places: np.ndarray) -> Image:
    """Rows of images on the left; on the right all of them, each at its place."""
    from PIL import Image

    small = [Image.fromarray(each).resize((CELL, CELL)) for each in pixels]
    left = (NEAREST + 1) * (CELL + GAP) + GAP
    height = max(SIDE, len(rows) * (CELL + GAP))
    made = Image.new("RGB", (left + 4 * GAP + SIDE, height), "white")
    for y, row in enumerate(rows):
        for x, number in enumerate(row):
            apart = GAP if x else 0  # from the image that is asked about
            made.paste(small[number], (x * (CELL + GAP) + apart, y * (CELL + GAP)))
    for picture, place in zip(small, places, strict=True):
        x, y = (place * (SIDE - CELL)).round().astype(int).tolist()
        made.paste(picture, (left + 4 * GAP + x, y))
    return made.quantize(COLOURS)


class Part(NamedTuple):
    """Images of a batch, the features of each, and of a clustering its shares of the clusters."""

    pixels: list[np.ndarray]
    features: Tensor
    shares: Tensor | None


@torch.no_grad()
def write_alike(
    method: SharingMethod, batches: Iterable[Batch], normalisation: Normalisation, folder: Path
) -> None:
    """Write `alike-<task>.png` for each task that learns without labels from whole images."""
    tasks = {n: t for n, t in method.tasks.items() if isinstance(t, PretextTask | Clustering)}
    parts: dict[str, list[Part]] = {}
    device = next(method.parameters()).device
    was_training = method.training
    method.eval()
    waiting = set(tasks)
    for batch in batches if tasks else ():
        outputs = method(batch.to(device))
        for name, group, target in batch:
            if name not in waiting:
                continue
            if group.views != 1 or name not in outputs.features:
                waiting.remove(name)
                continue
            images = target.labelled(group.images)
            prediction = outputs.predictions[name]
            shares = prediction["q"].cpu() if isinstance(tasks[name], Clustering) else None
            features = outputs.features[name].float().mean((2, 3)).cpu()
            found = parts.setdefault(name, [])
            found.append(Part(as_pixels(images, normalisation), features, shares))
            if sum(len(part.pixels) for part in found) >= MOST:
                waiting.remove(name)
        if not waiting:
            break
    method.train(was_training)
    for name, found in parts.items():
        _write(folder / f"alike-{name}.png", found)


def _write(path: Path, parts: list[Part]) -> None:
    pixels = [each for part in parts for each in part.pixels][:MOST]
    features = torch.cat([part.features for part in parts]).numpy()[:MOST]
    if len(pixels) < 3 or features.shape[1] < 2:
        return
    shares = [part.shares for part in parts if part.shares is not None]
    rows = (
        rows_of_clusters(torch.cat(shares).numpy()[:MOST])
        if shares
        else rows_of_neighbours(features)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(pixels, rows, on_plane(features)).save(path, optimize=True)

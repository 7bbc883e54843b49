"""What the features of a finished run are worth as they are, before anything learns from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polytask.data.pipeline import Data
from polytask.distill.probe import probe
from polytask.sharing.method import SharingMethod
from polytask.training.source import Source
from polytask.training.teacher import Teacher


def probes(
    method: SharingMethod, source: Source, data: Data, device: torch.device
) -> dict[str, dict[str, float]]:
    """How the run's backbone, as it is, serves each classification: scores on the test split."""
    teacher = Teacher(method, source, data.normalisation).to(device)
    found: dict[str, dict[str, float]] = {}
    names = [name for name, task in method.tasks.items() if task.kind == "classification"]
    fitted = _features(teacher, names, data, "train", device)
    scored = _features(teacher, names, data, "test", device)
    for name in fitted.keys() & scored.keys():
        if len(np.unique(fitted[name][1])) > 1:
            found[name] = probe(*fitted[name], *scored[name])
    return {name: found[name] for name in names if name in found}


def _features(
    teacher: Teacher, names: list[str], data: Data, split: str, device: torch.device
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pooled features [N, D] and labels [N] of each task that has some in a split."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for batch in data.scoring(split):
        for name, group, target in batch.to(device):
            if name in names:
                (last,) = teacher.maps(target.labelled(group.images), teacher.last(1))
                assert isinstance(target.value, Tensor)
                found.setdefault(name, []).append((last.mean((2, 3)), target.value))
    return {
        name: (
            torch.cat([features for features, _ in parts]).cpu().numpy(),
            torch.cat([labels for _, labels in parts]).cpu().numpy(),
        )
        for name, parts in found.items()
    }

"""What feature filters learned: α and β per channel, and how far their gates open on images.

Source: Lee et al., "Multi-Task Learning with Task-Specific Feature Filtering in Low-Data
Condition", Electronics 2021, 10, 2691, fig. 4 (the distribution of gate values).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polytask.batch import Batch
from polytask.sharing.filter import FeatureFilter
from polytask.sharing.method import SharingMethod
from polytask.training.checkpoint import write_json

BINS = 50


class GateHistogram:
    """Counts of one filter's gate values in `BINS` equal bins of [0, 1]."""

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.total = 0.0

    def see(self, module: FeatureFilter, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Count the gate of a filter's input; the signature is a forward hook's."""
        del output
        gate = module.gate(inputs[0]).detach().float().flatten()
        bins = (gate * BINS).long().clamp(0, BINS - 1)
        self.counts += torch.bincount(bins, minlength=BINS).cpu()
        self.total += float(gate.sum(dtype=torch.float64))

    def summary(self) -> dict[str, Any]:
        """Counts and mean; the mean is missing where no image was seen."""
        seen = int(self.counts.sum())
        return {"counts": self.counts.tolist(), "mean": self.total / seen if seen else None}


def filter_summary(method: SharingMethod, batches: Iterable[Batch]) -> dict[str, Any]:
    """α, β and gate values of every filter of a method on the images of `batches`.

    The method runs in eval mode without gradients and is left as it was found.
    """
    filters: dict[str, list[FeatureFilter]] = {
        task: [gate for gate in gates if isinstance(gate, FeatureFilter)]
        for task, gates in getattr(method, "filters", {}).items()
    }
    histograms = {task: [GateHistogram() for _ in gates] for task, gates in filters.items()}
    hooks = [
        gate.register_forward_hook(histogram.see)
        for task, gates in filters.items()
        for gate, histogram in zip(gates, histograms[task], strict=True)
    ]
    device = next(method.parameters()).device
    try:
        with torch.no_grad(), _evaluating(method):
            for batch in batches:
                method(batch.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return {
        "tasks": {
            task: [
                {
                    "alpha": gate.alpha.detach().flatten().tolist(),
                    "beta": gate.beta.detach().flatten().tolist(),
                    "gates": histogram.summary(),
                }
                for gate, histogram in zip(gates, histograms[task], strict=True)
            ]
            for task, gates in filters.items()
        }
    }


def write_filters(method: SharingMethod, batches: Iterable[Batch], folder: Path) -> Path:
    """Write `filters.json` into a run's folder of plots."""
    path = folder / "filters.json"
    write_json(path, filter_summary(method, batches))
    return path


@contextmanager
def _evaluating(method: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module, frozen ones too, is back in its own mode."""
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

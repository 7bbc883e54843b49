"""Scores of a split: metrics and mean loss of every task, in eval mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from polytask.batch import Batch, Group, Target, Value
from polytask.sharing.method import SharingMethod


@dataclass
class Scores:
    """What one pass over a split gives, by task."""

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def primary(self, method: SharingMethod) -> float:
        """The mean primary metric over tasks, larger is better."""
        values = [
            self.metrics[name][task.primary] * (1 if task.higher_is_better else -1)
            for name, task in method.tasks.items()
            if name in self.metrics
        ]
        return sum(values) / len(values) if values else float("nan")


class Watcher(Protocol):
    """What is shown every batch that is scored, task by task."""

    def see(
        self, name: str, group: Group, target: Target, prediction: Any, loss: Tensor, weight: Tensor
    ) -> None:
        """A task's prediction for its labelled images, and what `Task.loss` says of it."""


@torch.no_grad()
def evaluate(
    method: SharingMethod,
    batches: Iterable[Batch],
    device: torch.device,
    watcher: Watcher | None = None,
) -> Scores:
    """Score a method on batches; a task without a labelled image has no entry."""
    was_training = method.training
    method.eval()
    metrics = {name: task.metrics().to(device) for name, task in method.tasks.items()}
    sums = dict.fromkeys(method.tasks, 0.0)
    weights = dict.fromkeys(method.tasks, 0.0)
    scores = Scores()
    seen: dict[str, list[Value]] = {name: [] for name in method.tasks}
    for batch in batches:
        batch = batch.to(device)
        outputs = method(batch)
        for name, group, target in batch:
            task, prediction = method.tasks[name], outputs.predictions[name]
            assert target.value is not None
            loss, weight = task.loss(prediction, target.value)
            sums[name] += float(loss.sum())
            weights[name] += float(weight.sum())
            metrics[name].update(*task.scored(prediction, target.value))
            seen[name].append(task.tally(target.value))
            if watcher is not None:
                watcher.see(name, group, target, prediction, loss, weight)
            labelled = len(group) if target.rows is None else len(target.rows)
            scores.counts[name] = scores.counts.get(name, 0) + labelled
    for name, task in method.tasks.items():
        if not seen[name]:
            continue
        scores.metrics[name] = {k: float(v) for k, v in metrics[name].compute().items()}
        scores.losses[name] = sums[name] / max(weights[name], 1e-12)
        scores.chance[name] = task.chance(_joined(seen[name]))
    method.train(was_training)
    return scores


def _joined(values: list[Any]) -> Value:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {key: torch.cat([value[key] for value in values]) for key in first}
    return [item for value in values for item in value]

"""Scores of a split: metrics and mean loss of every task, in eval mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from polytask.balancing import ALONE, Processes
from polytask.batch import Batch, Group, Target, Value, moved
from polytask.sharing.method import SharingMethod
from polytask.tasks.merging import alone, merge


@dataclass
class Scores:
    """What one pass over a split gives, by task."""

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    chance: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def by_task(self, method: SharingMethod) -> dict[str, float]:
        """The primary metric of each task, larger is better."""
        return {
            name: self.metrics[name][task.primary] * (1 if task.higher_is_better else -1)
            for name, task in method.tasks.items()
            if name in self.metrics
        }

    def primary(self, method: SharingMethod) -> float:
        """The mean primary metric over tasks, larger is better."""
        values = self.by_task(method).values()
        return sum(values) / len(values) if values else float("nan")


class Watcher(Protocol):
    """What is shown every batch that is scored, task by task."""

    def see(
        self, name: str, group: Group, target: Target, prediction: Any, loss: Tensor, weight: Tensor
    ) -> None:
        """A task's prediction for its labelled images, and what `Task.loss` says of it."""


@dataclass
class _Seen:
    """What one process saw of a task: loss, its weight, labelled images, and targets for chance."""

    loss: float = 0.0
    weight: float = 0.0
    count: int = 0
    tallies: list[Value] = field(default_factory=list)


@torch.no_grad()
def evaluate(
    method: SharingMethod,
    batches: Iterable[Batch],
    device: torch.device,
    watcher: Watcher | None = None,
    processes: Processes = ALONE,
) -> Scores:
    """Score a method on batches; a task without a labelled image has no entry.

    Each of several `processes` brings some of the batches, and all get the scores of all.
    """
    was_training = method.training
    method.eval()
    metrics = {name: alone(task.metrics()).to(device) for name, task in method.tasks.items()}
    seen = {name: _Seen() for name in method.tasks}
    for batch in batches:
        batch = batch.to(device)
        outputs = method(batch)
        for name, group, target in batch:
            task, prediction, own = method.tasks[name], outputs.predictions[name], seen[name]
            assert target.value is not None
            loss, weight = task.loss(prediction, target.value)
            own.loss += float(loss.sum())
            own.weight += float(weight.sum())
            metrics[name].update(*task.scored(prediction, target.value))
            # Processes that have a GPU each put theirs together.
            own.tallies.append(moved(task.tally(target.value), "cpu"))
            if watcher is not None:
                watcher.see(name, group, target, prediction, loss, weight)
            own.count += len(group) if target.rows is None else len(target.rows)
    method.train(was_training)
    scores = Scores()
    for name, task in method.tasks.items():
        parts = processes.gather(seen[name])
        if processes.size > 1:
            merge(metrics[name], processes.gather)
        if not (count := sum(part.count for part in parts)):
            continue
        scores.counts[name] = count
        scores.metrics[name] = {k: float(v) for k, v in metrics[name].compute().items()}
        weight = sum(part.weight for part in parts)
        scores.losses[name] = sum(part.loss for part in parts) / max(weight, 1e-12)
        scores.chance[name] = task.chance(_joined([t for part in parts for t in part.tallies]))
    return scores


def _joined(values: list[Any]) -> Value:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {key: torch.cat([value[key] for value in values]) for key in first}
    return [item for value in values for item in value]

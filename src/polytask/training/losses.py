"""From predictions to one loss per task, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from polytask.balancing import global_values
from polytask.batch import Batch
from polytask.loss import Term, normalised
from polytask.sharing.method import Outputs
from polytask.tasks.task import Task
from polytask.training.world import World


class StepLosses:
    """The losses of one step.

    `losses`: each task present in the global batch → its loss (Σ local loss / Σ global weight);
    `values` those summed over processes; `penalty` the sum of the terms that belong to no task.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        batch: Batch,
        outputs: Outputs,
        terms: Iterable[Term],
        world: World,
        reduction: str = "task_mean",
    ) -> None:
        local: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for name, _, target in batch:
            if target.value is not None and name in outputs.predictions:
                prediction = outputs.predictions[name]
                local[name] = [tasks[name].loss(prediction, target.value)]
        self.penalty: Tensor | None = None
        for term in terms:
            if term.task is None:
                # On parameters, which every process has: the gradients of all are added up.
                value = term.value * term.weight
                value = value if world.size == 1 else value / world.size
                self.penalty = value if self.penalty is None else self.penalty + value
            elif isinstance(term.weight, Tensor):
                local.setdefault(term.task, []).append((term.value, term.weight))
            else:
                weight = torch.full_like(term.value, term.weight, requires_grad=False)
                local.setdefault(term.task, []).append((term.value, weight))
        weights = self._global_weights(local, list(tasks), world)
        self.losses: dict[str, Tensor] = {}
        for name in _present(weights):
            parts = [
                normalised(loss, total)
                for (loss, _), total in zip(local[name], weights[name], strict=True)
            ]
            self.losses[name] = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        if reduction == "sample_mean":
            everything = torch.stack([total[0] for total in weights.values()]).sum()
            for name in self.losses:
                self.losses[name] = self.losses[name] * (weights[name][0] / everything)
        self.values = global_values(self.losses, list(tasks), world)

    @staticmethod
    def _global_weights(
        local: dict[str, list[tuple[Tensor, Tensor]]], order: list[str], world: World
    ) -> dict[str, list[Tensor]]:
        sums = {name: [w.detach().sum() for _, w in local[name]] for name in order if name in local}
        if world.size == 1:
            return sums
        width = max((len(parts) for parts in sums.values()), default=1)
        width = int(world.sum(torch.tensor([float(width)])).item())  # an upper bound on every rank
        table = torch.zeros(len(order), width, device=world.device)
        for row, name in enumerate(order):
            for column, value in enumerate(sums.get(name, [])):
                table[row, column] = value
        table = world.sum(table)
        return {name: list(table[order.index(name)][: len(sums[name])]) for name in sums}


def _present(weights: dict[str, list[Tensor]]) -> list[str]:
    """The tasks with a label somewhere, found by one reading of all weights."""
    if not weights:
        return []
    read = torch.stack([total[0] for total in weights.values()]).tolist()
    return [name for name, weight in zip(weights, read, strict=True) if weight]

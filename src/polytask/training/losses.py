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

    `losses`: each task present in the global batch → its loss (Σ local loss / Σ global weight), by
    `sample_mean` times its share of all labelled images, an image counting once for each task;
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
        counts, weights = self._global_sums(local, list(tasks), world)
        self.losses: dict[str, Tensor] = {}
        for name in _present(counts):
            parts = [
                normalised(loss, total)
                for (loss, _), total in zip(local[name], weights[name], strict=True)
            ]
            self.losses[name] = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        if reduction == "sample_mean":
            everything = torch.stack([*counts.values()]).sum()
            for name in self.losses:
                self.losses[name] = self.losses[name] * (counts[name] / everything)
        self.values = global_values(self.losses, list(tasks), world)

    @staticmethod
    def _global_sums(
        local: dict[str, list[tuple[Tensor, Tensor]]], order: list[str], world: World
    ) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        """Of each task how many images are labelled, and the weight of each part of its loss."""
        sums: dict[str, list[Tensor]] = {}
        for name in order:
            if name in local:
                weights = [weight.detach() for _, weight in local[name]]
                labelled = (weights[0] > 0).sum().to(weights[0])
                sums[name] = [labelled, *(weight.sum() for weight in weights)]
        if world.size > 1:
            sums = _added(sums, order, world)
        return {n: s[0] for n, s in sums.items()}, {n: s[1:] for n, s in sums.items()}


def _added(
    sums: dict[str, list[Tensor]], order: list[str], world: World
) -> dict[str, list[Tensor]]:
    """Those of all processes, which need not have the same tasks, in one message."""
    width = max((len(parts) for parts in sums.values()), default=1)
    width = int(world.sum(torch.tensor([float(width)])).item())  # an upper bound on every rank
    table = torch.zeros(len(order), width, device=world.device)
    for row, name in enumerate(order):
        for column, value in enumerate(sums.get(name, [])):
            table[row, column] = value
    table = world.sum(table)
    return {name: list(table[order.index(name)][: len(sums[name])]) for name in sums}


def _present(counts: dict[str, Tensor]) -> list[str]:
    """The tasks with a label somewhere, found by one reading of all counts."""
    if not counts:
        return []
    read = torch.stack([*counts.values()]).tolist()
    return [name for name, count in zip(counts, read, strict=True) if count]

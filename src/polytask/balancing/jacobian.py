"""The gradients of several tasks side by side: a row a task, over what the tasks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polytask.balancing import ALONE, Processes


class Rows:
    """The Jacobian over some leaves, a row a task, as the gradients that backward passes leave.

    `others` are the processes that hold other columns: features of other images.
    """

    def __init__(self, leaves: Sequence[Tensor], others: Processes = ALONE) -> None:
        self.leaves, self.others = leaves, others
        self.by_task: dict[str, list[Tensor | None]] = {}

    @property
    def device(self) -> torch.device:
        """That of the leaves."""
        return self.leaves[0].device

    def take(self, task: str) -> None:
        """Move the gradients of the leaves into a task's row."""
        self.by_task[task] = [leaf.grad for leaf in self.leaves]
        for leaf in self.leaves:
            leaf.grad = None

    def only(self, tasks: Sequence[str]) -> Rows:
        """The rows of some tasks."""
        chosen = Rows(self.leaves, self.others)
        chosen.by_task = {task: self.by_task[task] for task in tasks}
        return chosen

    def sum_over(self, processes: Processes) -> None:
        """Add up the rows of all processes."""
        if processes.size == 1 or not self.leaves:
            return
        for row in self.by_task.values():
            has = torch.tensor([float(g is not None) for g in row], device=self.device)
            reached = processes.sum(has).tolist()
            total = torch.split(processes.sum(self._flat(row)), self._sizes())
            for column, (leaf, part) in enumerate(zip(self.leaves, total, strict=True)):
                row[column] = part.view_as(leaf) if reached[column] else None

    def finite(self) -> list[str]:
        """The tasks that reach some leaf, and with a finite gradient."""
        rows = [[g for g in row if g is not None] for row in self.by_task.values()]
        norms = [nn.utils.get_total_norm(row).to(self.device) for row in rows]
        reached = torch.tensor([float(bool(row)) for row in rows], device=self.device)
        totals, counts = self.others.sum(torch.stack([torch.stack(norms), reached])).tolist()
        listed = zip(self.by_task, totals, counts, strict=True)
        return [task for task, total, count in listed if count and math.isfinite(total)]

    def gramian(self) -> Tensor:
        """The products of all pairs of rows [K, K]."""
        rows = list(self.by_task.values())
        made = torch.zeros(len(rows), len(rows), device=self.device)
        for i, one in enumerate(rows):
            for j, other in enumerate(rows[: i + 1]):
                pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None]
                products = [torch.dot(a.flatten(), b.flatten()) for a, b in pairs if b is not None]
                if products:
                    made[i, j] = made[j, i] = torch.stack(products).sum()
        return self.others.sum(made)

    def weighted(self, weights: Sequence[float]) -> list[Tensor | None]:
        """Σ weight · row for each leaf; uses the rows up."""
        found: list[Tensor | None] = [None] * len(self.leaves)
        for weight, row in zip(weights, self.by_task.values(), strict=True):
            for column, gradient in enumerate(row):
                before = found[column]
                if gradient is not None and before is None:
                    found[column] = gradient.mul_(weight)
                elif gradient is not None and before is not None:
                    before.add_(gradient, alpha=weight)
        if self.others.size > 1:  # the pass through the trunk is then one of all processes
            pairs = zip(found, self.leaves, strict=True)
            return [torch.zeros_like(leaf) if made is None else made for made, leaf in pairs]
        return found

    def jacobian(self) -> Tensor:
        """The rows in one piece [K, N], zeros where a leaf is not reached."""
        return torch.stack([self._flat(row) for row in self.by_task.values()])

    def split(self, vector: Tensor) -> list[Tensor | None]:
        """The part of a vector [N] of each leaf that some row reaches."""
        reached = [
            any(g is not None for g in column)
            for column in zip(*self.by_task.values(), strict=True)
        ]
        parts = zip(self.leaves, torch.split(vector, self._sizes()), reached, strict=True)
        return [part.view_as(leaf) if is_reached else None for leaf, part, is_reached in parts]

    def _sizes(self) -> list[int]:
        return [leaf.numel() for leaf in self.leaves]

    def _flat(self, row: Sequence[Tensor | None]) -> Tensor:
        pairs = zip(self.leaves, row, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])


class Cut:
    """Parts the graph at a module's outputs during one forward pass: gradients by the outputs are
    collected in `leaves`, and go on from there in one pass."""

    def __init__(self, module: nn.Module) -> None:
        self.outputs: list[Tensor] = []
        self.leaves: list[Tensor] = []
        self.handle = module.register_forward_hook(self._part)

    def _part(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        del module, arguments
        if not isinstance(output, Tensor):
            return tuple(map(self._leaf, output))
        return self._leaf(output)

    def _leaf(self, output: Tensor) -> Tensor:
        if not output.requires_grad:
            return output
        self.outputs.append(output)
        self.leaves.append(output.detach().requires_grad_())
        return self.leaves[-1]

    def run_back(self, *, keep: bool) -> None:
        """Send the gradients of the leaves through what lies before the cut."""
        self.handle.remove()
        pairs = [
            (output, leaf.grad)
            for output, leaf in zip(self.outputs, self.leaves, strict=True)
            if leaf.grad is not None
        ]
        if pairs:
            outputs, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(outputs, gradients, retain_graph=keep)

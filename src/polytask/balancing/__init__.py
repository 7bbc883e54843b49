"""How task losses are combined: task weighting turns losses into weights, gradient aggregation the
task gradients over the shared parameters into one.

A balancer sees global losses only. It is a module, so that what it learns or remembers is in the
checkpoint; it starts afresh in each phase unless the phase keeps it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from polytask import registry

if TYPE_CHECKING:
    from polytask.batch import Batch
    from polytask.sharing.method import Outputs, SharingMethod

NOT_NAMES = ("jacobian",)


class Processes(Protocol):
    """The processes of a run: how many, and sums over them."""

    size: int

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes."""


class Alone:
    """One process: every sum is the value itself."""

    size = 1

    def sum(self, value: Tensor) -> Tensor:
        """The value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]


ALONE: Processes = Alone()


class BalancerOptions(BaseModel):
    """Options of a balancer in a config; `per_task` names those whose keys are tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    per_task: ClassVar[tuple[str, ...]] = ()


class Balancer(nn.Module, ABC):
    """Turns the losses of the tasks present in a step into gradients."""

    Options: ClassVar[type[BalancerOptions]] = BalancerOptions

    def __init__(self, tasks: Sequence[str], options: BalancerOptions) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.options = options

    @abstractmethod
    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        """The weight of each task from the global losses; a task without one does not count."""

    def own_loss(self, present: Collection[str]) -> Tensor | None:
        """What the balancer's own parameters minimise besides the weighted losses."""
        del present
        return None

    def combine(self, losses: Mapping[str, Tensor], values: Mapping[str, float]) -> Tensor | None:
        """Σ weight · loss with the weights of the global `values`; `None` where no task counts."""
        weights = self.weights(values)
        return added(loss * weights[task] for task, loss in losses.items() if task in weights)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        method: SharingMethod,
        penalty: Tensor | None = None,
        processes: Processes = ALONE,
        values: Mapping[str, float] | None = None,
    ) -> None:
        """Add this process's part of the step's gradient to every parameter it reaches.

        Args:
            losses: this process's part of the global loss of each task.
            method: whose parameters the tasks share.
            penalty: what belongs to no task; its gradient is added as it is.
            processes: those that hold the other parts.
            values: the global loss of each task, where it has been added up already.
        """
        del method
        if values is None:
            values = global_values(losses, self.tasks, processes)
        own = self.own_loss(values)
        shares = (
            self.combine(losses, values),
            None if own is None else own / processes.size,
            penalty,
        )
        run_back(added(share for share in shares if share is not None))

    def check(self, method: SharingMethod) -> None:
        """Refuse a method that this balancer cannot serve.

        Raises:
            UserError: with the balancer, the method and the reason.
        """

    def check_processes(self, size: int) -> None:
        """Refuse more processes than this balancer can add up.

        Raises:
            UserError: with the balancer and the reason.
        """

    def on_step(self, key: int, method: SharingMethod) -> None:
        """Called before the forward pass of each step; `key` is a number drawn from (seed, phase,
        epoch, step) for what is random."""

    def on_outputs(
        self, method: SharingMethod, batch: Batch, outputs: Outputs, processes: Processes
    ) -> None:
        """Called with the predictions of each step, before its losses are weighted."""

    def on_epoch_end(self, losses: Mapping[str, float]) -> None:
        """Called with the epoch's mean loss of each task."""

    def on_scores(self, scores: Mapping[str, float]) -> None:
        """Called with each task's primary metric on validation images, larger being better."""

    @property
    def weighs_losses(self) -> bool:
        """Whether one backward pass of weighed losses is all it does, so that it looks at no
        gradient of its own."""
        return type(self).backward is Balancer.backward

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train for."""
        return False


def global_values(
    losses: Mapping[str, Tensor], tasks: Sequence[str], processes: Processes
) -> dict[str, float]:
    """The global loss of each task that is present in any process, read in one go."""
    if processes.size == 1:
        read = torch.stack([loss.detach() for loss in losses.values()]).tolist() if losses else []
        return dict(zip(losses, read, strict=True))
    device = next(iter(losses.values())).device if losses else "cpu"
    table = torch.zeros(2, len(tasks), device=device)
    for task, loss in losses.items():
        table[:, tasks.index(task)] = torch.stack([loss.detach(), torch.ones_like(loss)])
    values, counts = processes.sum(table).tolist()
    found = zip(tasks, values, counts, strict=True)
    return {task: value for task, value, count in found if count}


def added(terms: Iterable[Tensor]) -> Tensor | None:
    """The sum of some scalars from left to right, `None` of none."""
    total: Tensor | None = None
    for term in terms:
        total = term if total is None else total + term
    return total


def run_back(loss: Tensor | None, *, keep: bool = False) -> None:
    """Accumulate the gradient of a scalar, if anything asks for it; `keep` its graph."""
    if loss is not None and loss.requires_grad:
        loss.backward(retain_graph=keep)  # type: ignore[no-untyped-call]


def build(spec: str | Mapping[str, Any], method: SharingMethod, processes: int = 1) -> Balancer:
    """The balancer of a config entry, a name or `{name: options}`, for a method.

    Where tasks share nothing there is nothing to balance: `single` is trained by plain sums, so
    that weights do not turn into learning rates of the baseline.

    Raises:
        UserError: the balancer cannot serve the method, or so many processes.
        MissingExtra: the balancer needs an optional dependency.
    """
    name, options = (spec, {}) if isinstance(spec, str) else next(iter(spec.items()))
    made = registry.load("balancing", name, Balancer)
    tasks = list(method.tasks)
    balancer: Balancer = made(tasks, made.Options(**(options or {})))
    if not method.shared():
        plain = registry.load("balancing", "equal", Balancer)
        return plain(tasks, plain.Options())  # type: ignore[no-any-return]
    balancer.check(method)
    balancer.check_processes(processes)
    return balancer

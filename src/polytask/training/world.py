"""The processes of a run, through lightning-fabric: device, precision and sums over processes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from polytask.errors import UserError

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


class World:
    """Rank, device and collectives of a run; with one process every collective is the identity.

    The model is replicated, not wrapped: a process works on its slice of the global batch, losses
    are divided by global weights, so that gradients simply add (DESIGN, Engine).
    """

    def __init__(self, fabric: Any) -> None:
        self.fabric = fabric
        self.rank: int = fabric.global_rank
        self.size: int = fabric.world_size
        self.device: torch.device = fabric.device

    @property
    def is_first(self) -> bool:
        """Whether this process locks, decides and writes."""
        return self.rank == 0

    @classmethod
    def of(cls, precision: str = "32", accelerator: str = "auto") -> World:
        """One process on the best device of this machine."""
        from lightning_fabric import Fabric

        _quieten()
        return cls(Fabric(accelerator=accelerator, devices=1, precision=PRECISION[precision]))

    @classmethod
    def joined(cls, environment: Any, devices: int, precision: str = "32") -> World:
        """One of several processes, which `environment` (of lightning-fabric) introduces; waits
        until all are there. `devices` of them are on this machine.

        Raises:
            UserError: there are fewer GPUs than processes.
        """
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        check_devices(devices)
        _quieten()
        has_gpus = torch.cuda.is_available()
        backend = "nccl" if has_gpus else "gloo"
        # Of the strategy only its process group serves: no module is wrapped.
        fabric = Fabric(
            accelerator="cuda" if has_gpus else "cpu",
            devices=devices,
            num_nodes=environment.world_size() // devices,
            strategy=DDPStrategy(cluster_environment=environment, process_group_backend=backend),
            precision=PRECISION[precision],
        )
        fabric.launch()
        return cls(fabric)

    def alone(self) -> World:
        """This process as if there were no other."""
        made = copy(self)
        made.rank, made.size = 0, 1
        return made

    def leave(self) -> None:
        """Be one process again."""
        if self.size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision's context for a forward pass."""
        context: AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def seed(self, number: int) -> None:
        """Seed the generators that a step draws from: the CPU's and the device's.

        `torch.manual_seed` also takes a stack trace for each backend that is not in use.
        """
        torch.default_generator.manual_seed(number)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(number)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes; may reuse its memory."""
        if self.size == 1:
            return value
        total: Tensor = self.fabric.all_reduce(value, reduce_op="sum")
        return total

    def any(self, *claims: bool) -> list[bool]:
        """Of each claim, whether it holds in any process."""
        if self.size == 1:
            return list(claims)
        return [n > 0 for n in self.sum(torch.tensor(claims, device=self.device).float()).tolist()]

    def tell(self, value: Any) -> Any:
        """The first process's value, in every process."""
        return value if self.size == 1 else self.fabric.broadcast(value)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes; one without a gradient adds zeros.

        A parameter that no process has a gradient for keeps none.
        """
        if self.size == 1:
            return
        known = list(parameters)
        has = torch.tensor([p.grad is not None for p in known], device=self.device).float()
        counts = self.sum(has).tolist()
        reached = [p for p, count in zip(known, counts, strict=True) if count]
        if not reached:
            return
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in reached]
        # One message: a message a parameter would take longer than what it says.
        parts = torch.split(self.sum(torch.cat(flat)), [p.numel() for p in reached])
        for p, part in zip(reached, parts, strict=True):
            p.grad = part.view(p.shape)

    @torch.no_grad()
    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Let tensors hold what they hold in the first process."""
        if self.size == 1:
            return
        known = list(tensors)
        told = self.tell([tensor.cpu() for tensor in known] if self.is_first else None)
        for tensor, value in zip(known, told, strict=True):
            tensor.copy_(value)


def check_devices(devices: int) -> None:
    """Refuse more processes than GPUs, where there are any; on a CPU any number may share it.

    Raises:
        UserError: with how many there are.
    """
    gpus = torch.cuda.device_count()
    if gpus and devices > gpus:
        raise UserError.at("--devices", f"got {devices}; expected at most the {gpus} GPUs here.")


def _quieten() -> None:
    """What Fabric chose is what the config says, or what the log of the run begins with."""
    for name in ("lightning_fabric", "lightning.fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.WARNING)

"""The slow teacher of a pretext task: an exponential average of the task's path, and its centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polytask.backbones.norm import BatchNorm

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod


class Teacher(nn.Module):
    """A copy of a path that follows the network: θ_t ← m θ_t + (1 − m) θ_s before every step.

    It holds buffers alone, so that nothing trains it and all of it is in the run's state. The
    `centre` [K] of its answers follows their mean.
    """

    centre: Tensor

    def __init__(self, path: nn.Module, answers: int, momentum: float, centring: float) -> None:
        super().__init__()
        self.path = without_parameters(path)
        self.momentum, self.centring = momentum, centring
        self.register_buffer("centre", torch.zeros(answers))

    @torch.no_grad()
    def follow(self, path: nn.Module) -> None:
        """Move towards the path as it is now; counts and the like are taken over."""
        own = without_parameters(path)
        for mine, now in zip(self.path.buffers(), own.buffers(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(now, 1 - self.momentum)
            else:
                mine.copy_(now)

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """Logits [B, V, K] for the views of images [B·V, C, H, W]."""
        found: Any = self.path(images)
        logits: Tensor = found["logits"]
        return logits

    @torch.no_grad()
    def move_centre(self, answers: Tensor, method: SharingMethod) -> None:
        """c ← m c + (1 − m) · the mean of answers [B, V, K], those of all processes."""
        rows = answers.flatten(0, 1)
        total = torch.cat([rows.sum(0), rows.new_tensor([len(rows)])])
        sync = next((m.current.sync for m in method.modules() if isinstance(m, BatchNorm)), None)
        if sync is not None:
            total = sync(total)
        self.centre.lerp_(total[:-1] / total[-1].clamp(min=1), 1 - self.centring)


def without_parameters(module: nn.Module) -> nn.Module:
    """The module with every parameter turned into a buffer."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module

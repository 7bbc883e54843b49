"""Batch norm whose running statistics belong to streams, that can freeze, and that syncs on any
device.

Every batch norm of a polytask network is one of these. With one set of statistics it is torch's
batch norm, in its numbers and in the keys of its state.

Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015; the statistics of several processes
summed around their running mean, after Chan et al., "Algorithms for computing the sample variance",
1983.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sync: TypeAlias = Callable[[Tensor], Tensor]
CELLS = (0, 2, 3)  # the axes that a channel's statistics run over


@dataclass
class Current:
    """What the norms of a network share: whose statistics count now, and how processes sum.

    `key` is one of the keys the norms were made with; it is not read where they have one set of
    statistics. `sync` takes a tensor to its sum over the processes and its gradient to the sum of
    the gradients, as `sum_over_processes` does; every process must then run the same norms equally
    often, forward and backward, with no rows if it has none. `None` keeps statistics local.
    """

    key: str = ""
    sync: Sync | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Current:
        # A copied network has a key of its own but talks to the same processes.
        return Current(self.key, self.sync)


class _Sum(torch.autograd.Function):
    """A sum over processes, whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        del ctx
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


def sum_over_processes(own: Tensor) -> Tensor:
    """`Current.sync` of torch's default process group, on any device."""
    total: Tensor = _Sum.apply(own)
    return total


class Bank(NamedTuple):
    """The tensors behind one key, in the order of `KINDS`."""

    mean: Tensor
    var: Tensor
    batches: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def first(self, channels: int) -> Bank:
        """The same of the first channels: what a map narrower than the norm uses."""
        if len(self.mean) == channels:
            return self
        cut = [t if t is None else t[:channels] for t in (*self[:2], *self[3:])]
        return Bank(cut[0], cut[1], self.batches, cut[2], cut[3])  # type: ignore[arg-type]


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
KINDS = (*STATISTICS, "weight", "bias")


def _safe(key: str) -> str:
    """A key as a part of a tensor's name, which must hold no dot; different for different keys."""
    return quote(key, safe="").replace(".", "%2E")


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over [B, C, H, W] with a set of running statistics per key.

    With fewer than two values per channel it uses its running statistics and leaves them as they
    are (torch raises). A map of fewer channels is taken to be the first ones. With several keys the
    tensors are named `running_mean@handwritten`, …; `weight` and `bias` are common unless
    `affine_per_stream`. With one key or none all names are torch's, and the key is not read.

    Args:
        norm: the norm whose tensors it takes over; every one of several keys starts from a copy.
        keys: whose statistics are kept apart.
        current: shared by the norms of a network.
    """

    def __init__(
        self,
        norm: nn.BatchNorm2d,
        keys: Sequence[str] = (),
        current: Current | None = None,
        *,
        affine_per_stream: bool = False,
    ) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False
        )
        self.affine = norm.affine
        self.current = current or Current()
        self.keys = tuple(keys)
        self.is_split = len(keys) > 1
        self.is_frozen = False
        self._names: dict[str, tuple[str, ...]] = {}
        for key in self.keys if self.is_split else ("",):
            names = []
            for kind in KINDS:
                tensor = getattr(norm, kind)
                is_own = self.is_split and (affine_per_stream or kind in STATISTICS)
                names.append(f"{kind}@{_safe(key)}" if is_own else kind)
                self._register(names[-1], _copy(tensor) if is_own else tensor)
            self._names[key] = tuple(names)
        self.training = self._mode = norm.training

    def _register(self, name: str, tensor: Tensor | None) -> None:
        if tensor is None or isinstance(tensor, nn.Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor)

    def bank(self, key: str) -> Bank:
        """The tensors of a key; of the only set where there is one."""
        try:
            mean, var, batches, weight, bias = self._names[key if self.is_split else ""]
        except KeyError:
            kept = ", ".join(self.keys)
            raise KeyError(f'no statistics are kept for "{key}", only for {kept}') from None
        buffers: dict[str, Any] = self._buffers
        parameters = self._parameters
        return Bank(
            buffers[mean], buffers[var], buffers[batches], parameters[weight], parameters[bias]
        )

    @torch.no_grad()
    def copy_bank(self, source: str, target: str) -> None:
        """Let the tensors of key `target` start over from those of `source`."""
        for theirs, own in zip(self.bank(source), self.bank(target), strict=True):
            if own is not None and theirs is not None and own is not theirs:
                own.copy_(theirs)

    def freeze(self, is_frozen: bool = True) -> None:
        """Stay in eval mode whatever `train` says; unfrozen, be in the mode it said last."""
        self.is_frozen = is_frozen
        self.train(self._mode)

    def train(self, mode: bool = True) -> BatchNorm:
        """Set the mode; it waits while frozen."""
        self._mode = mode
        super().train(mode and not self.is_frozen)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the statistics of the batch in training, else with the running ones."""
        bank = self.bank(self.current.key).first(x.shape[1])
        if self.training and self.current.sync is not None:
            return self._synchronised(x, bank, self.current.sync)
        # Not a condition of its own, which a compiler could not tell where batches differ in size.
        moves = self._count(bank) if self.training and x.numel() >= 2 * x.shape[1] else None
        return F.batch_norm(
            x,
            bank.mean,
            bank.var,
            bank.weight,
            bank.bias,
            moves is not None,
            moves or 0.0,
            self.eps,
        )

    def _count(self, bank: Bank) -> float:
        """Count a batch; how far it moves the running statistics."""
        bank.batches.add_(1)
        return 1 / float(bank.batches) if self.momentum is None else self.momentum

    def _synchronised(self, x: Tensor, bank: Bank, sync: Sync) -> Tensor:
        """The same with the statistics of all processes' rows, in one reduction.

        Sums are taken around the running mean, which all processes share: the variance is then no
        difference of two large numbers.
        """
        centred = x.to(bank.mean.dtype) - _per_channel(bank.mean.clone())
        rows = centred.new_full((1,), x.numel() // x.shape[1])
        summed = sync(torch.cat([centred.sum(CELLS), centred.square().sum(CELLS), rows]))
        total, squares = summed[:-1].chunk(2)
        rows = summed[-1:]
        learns = rows >= 2
        rows = rows.clamp(min=2)
        moved = torch.where(learns, total / rows, torch.zeros_like(total))
        var = torch.where(learns, squares / rows - moved.square(), bank.var)
        with torch.no_grad():
            bank.batches.add_(learns.squeeze(0))
            share = 1 / bank.batches.clamp(min=1) if self.momentum is None else self.momentum
            factor = learns * share
            bank.mean.add_(factor * moved)
            bank.var.add_(factor * (var * rows / (rows - 1) - bank.var))
        scale = (var.clamp(min=0) + self.eps).rsqrt()
        if bank.weight is not None:
            scale = scale * bank.weight
        out = (centred - _per_channel(moved)) * _per_channel(scale)
        if bank.bias is not None:
            out = out + _per_channel(bank.bias)
        return out.to(x.dtype)

    def plain(self, key: str) -> nn.BatchNorm2d:
        """torch's batch norm with copies of a key's tensors, as an exported path has it."""
        norm = nn.BatchNorm2d(
            self.num_features, self.eps, self.momentum, affine=False, track_running_stats=False
        )
        norm.affine, norm.track_running_stats = self.affine, True
        for kind, tensor in zip(KINDS, self.bank(key), strict=True):
            setattr(norm, kind, _copy(tensor))
        norm.training = self.training
        return norm


def _copy(tensor: Tensor | None) -> Tensor | None:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach().clone(), requires_grad=tensor.requires_grad)
    return None if tensor is None else tensor.clone()


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def convert(
    module: nn.Module,
    keys: Sequence[str] = (),
    current: Current | None = None,
    *,
    affine_per_stream: bool = False,
) -> Current:
    """Replace every `nn.BatchNorm2d` inside a module; parameters and buffers are taken over.

    Subclasses with a forward of their own, and norms without running statistics, stay.
    """
    current = current or Current()
    for parent in list(module.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d and norm.track_running_stats:
                own = BatchNorm(norm, keys, current, affine_per_stream=affine_per_stream)
                setattr(parent, name, own)
    return current


def parameters_under(module: nn.Module, key: str = "") -> set[nn.Parameter]:
    """The parameters of a module that count under a key: other keys' affine is left out."""
    found = set(module.parameters())
    for norm in module.modules():
        if isinstance(norm, BatchNorm):
            found -= set(norm.parameters(recurse=False)) - set(norm.bank(key)[3:])
    return found


def bake(module: nn.Module, key: str = "") -> None:
    """Replace every `BatchNorm` inside a module by torch's with the statistics of a key."""
    for parent in list(module.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, BatchNorm):
                setattr(parent, name, norm.plain(key))

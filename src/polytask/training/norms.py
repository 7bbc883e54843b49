"""Statistics of batch norms that are learned anew, from the network as it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from polytask.backbones.norm import BatchNorm
from polytask.randomness import stable_hash

if TYPE_CHECKING:
    from polytask.training.loop import Loop

BATCHES = 20


@torch.no_grad()
def relearn(loop: Loop, parts: Iterable[nn.Module], batches: int = BATCHES) -> None:
    """Learn the statistics of the norms in parts of the method as plain means over some training
    batches (at most an epoch's); all else is in eval mode."""
    method = loop.method
    was_training = method.training
    method.train()
    norms = [m for part in parts for m in part.modules() if isinstance(m, BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    method.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None
        for key in norm.keys if norm.is_split else ("",):
            norm.bank(key).batches.zero_()
    loop.world.seed(stable_hash(loop.seed, loop.phase.name, "norm"))
    stream = loop.rule.batches(loop, 0)
    for _, batch in zip(range(batches), stream, strict=False):
        with loop.world.autocast():
            method(loop.own(batch))
    stream.close()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    method.train(was_training)

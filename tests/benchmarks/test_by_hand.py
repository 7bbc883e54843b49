"""The networks of the benchmarks, written from scratch, train as polytask's methods do."""

from dataclasses import replace

import pytest
import torch
from benchmarks.step import DENSE, WORK
from torch.testing import assert_close

from benchmarks import balancers


@pytest.mark.parametrize("work", [*WORK, *DENSE[:5]], ids=lambda work: work.name)
def test_methods_train_as_their_mathematics_by_hand(work):
    small = replace(work.workload, side=32 if work.workload.stem == "imagenet" else 16)
    # Narrower convolutions crash in oneDNN (see strided).
    small = replace(small, batch=12, width=small.width if small.width < 1 else 1 / 4)
    if work.workload.decoder:
        small = replace(small, side=64, batch=4)
    ours = small.training(work.method, work.options, turn=work.turn)
    theirs = work.by_hand(small)
    theirs.load(ours.loop.method)
    first, second = ours.batches[:2]
    ours.step(first)
    theirs.step(first)
    for other, parameter in theirs.pairs(ours.loop.method):
        assert_close(parameter, other, rtol=1e-3, atol=1e-5)
    ours.step(second)
    theirs.step(second)
    mine = torch.tensor(list(ours.loop.last_losses.values()))
    assert_close(mine, torch.stack(theirs.losses).detach(), rtol=1e-4, atol=1e-4)


OF_EXTRA = ("cagrad", "nash_mtl", "upgrad", "dualproj", "fairgrad")  # checked where they are timed
ALIKE = {n for n in balancers.BY_HAND if n not in (*balancers.DRAWS, *OF_EXTRA)}


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_balancers_train_as_their_mathematics_by_hand(name):
    """The second step is after what the first one taught the balancer."""
    small = replace(balancers.WORK, side=16, batch=12)
    ours = small.training("hard", balancing=name)
    theirs = balancers.BY_HAND[name](small)
    theirs.load(ours.loop.method)
    for batch in ours.batches[:2]:
        ours.step(batch)
        theirs.step(batch)
    mine = torch.tensor(list(ours.loop.last_losses.values()))
    assert_close(mine, torch.stack(theirs.losses).detach(), rtol=1e-4, atol=1e-4)

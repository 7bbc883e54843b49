"""The networks of the benchmarks, written from scratch, train as polytask's methods do."""

from dataclasses import replace

import pytest
import torch
from benchmarks.step import WORK
from torch.testing import assert_close


@pytest.mark.parametrize("work", WORK, ids=lambda work: f"{work.method}-{work.workload.side}")
def test_methods_train_as_their_mathematics_by_hand(work):
    small = replace(work.workload, side=32 if work.workload.stem == "imagenet" else 12)
    small = replace(
        small, batch=12, width=1 / 4
    )  # narrower convolutions crash in oneDNN (see strided)
    ours = small.training(work.method, work.options)
    theirs = work.by_hand(small)
    theirs.load(ours.loop.method)
    for batch in ours.batches:
        ours.step(batch)
        theirs.step(batch)
        mine = torch.tensor(list(ours.loop.last_losses.values()))
        assert_close(mine, torch.stack(theirs.losses).detach(), rtol=1e-4, atol=1e-5)
    pairs = zip(ours.loop.method.parameters(), theirs.parameters(), strict=True)
    for parameter, other in pairs:
        assert_close(parameter, other, rtol=1e-3, atol=1e-5)

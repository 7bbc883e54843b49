"""A process's share of a batch, when several train together."""

from __future__ import annotations

import torch

from polytask.batch import Batch, Group, Target, take


def slice_batch(batch: Batch, rank: int, world: int) -> Batch:
    """Every `world`-th sample of each group from the `rank`-th on, rows numbered anew.

    Groups hold their data sets one after another, so that striding gives each process its share of
    every data set. A task of the batch stays present even where no row of it is in the share: a
    task is absent only where it is absent for the whole batch.
    """
    return Batch([_slice(group, rank, world) for group in batch.groups])


def _slice(group: Group, rank: int, world: int) -> Group:
    mine = torch.arange(len(group))[rank::world]
    images = group.images.view(len(group), group.views, *group.images.shape[1:])[mine].flatten(0, 1)
    targets = {task: _share(target, mine, rank, world) for task, target in group.targets.items()}
    return Group(images, group.index[mine], group.stream, targets, group.views)


def _share(target: Target, mine: torch.Tensor, rank: int, world: int) -> Target:
    if target.rows is None:
        chosen, rows = mine, None
    else:
        chosen = (target.rows % world == rank).nonzero().flatten()
        rows = target.rows[chosen] // world
    value = None if target.value is None else take(target.value, chosen)
    return Target(value, rows)

"""Deep embedded clustering: centres by k-means, then targets made anew every so many steps.

Source: Xie, Girshick, Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from polytask.batch import Batch, Group, Target
from polytask.tasks.dec import target_distribution
from polytask.training.rules import UpdateRule

if TYPE_CHECKING:
    from polytask.training.loop import Loop

STARTS = 20  # of k-means; the best counts


class Rule(UpdateRule):
    """Gives every image of `task` its target `p`, from all training images `interval` steps ago;
    with an interval of 0 it finds the centres and no more.

    `changed` is the share of them whose cluster differed between the last two times.
    """

    def __init__(self, task: str, interval: int, **options: Any) -> None:
        super().__init__(**options)
        self.task, self.interval = task, interval
        self.p = torch.zeros(0)
        self.clusters = torch.zeros(0, dtype=torch.long)
        self.changed = 1.0

    def steps(self, loop: Loop) -> int:
        return super().steps(loop) if self.interval else 1

    def run(self, loop: Loop, start: int) -> None:
        if not self.interval:
            if start == 0:
                self._refresh(loop)
                loop.tick()
            return
        for batch in self.batches(loop, start):
            if loop.updates % self.interval == 0:
                self._refresh(loop)
            loop.step(self._with_targets(batch))
            loop.tick()

    @torch.no_grad()
    def _refresh(self, loop: Loop) -> None:
        index, z, q = self._assigned(loop)
        if not len(self.p):
            self._find_centres(loop, z)
            index, z, q = self._assigned(loop)
        found = q.argmax(1)
        if len(self.clusters):
            self.changed = float((found != self.clusters).float().mean())
        self.clusters = found
        self.p = torch.zeros(int(index.max()) + 1, q.shape[1])
        self.p[index] = target_distribution(q)

    def _assigned(self, loop: Loop) -> tuple[Tensor, Tensor, Tensor]:
        """Number, embedding and soft assignment of every training image."""
        parts = []
        loop.method.eval()
        for batch in loop.data.scoring("train"):
            if self.task not in batch.tasks:
                continue
            prediction: Any = loop.method(batch.to(loop.world.device)).predictions[self.task]
            parts.append((self._numbers(batch), prediction["z"].cpu(), prediction["q"].cpu()))
        loop.method.train()
        index, z, q = zip(*parts, strict=True)
        return torch.cat(index), torch.cat(z), torch.cat(q)

    def _numbers(self, batch: Batch) -> Tensor:
        group, target = next((g, t) for name, g, t in batch if name == self.task)
        return target.labelled(group.index)

    def _find_centres(self, loop: Loop, z: Tensor) -> None:
        from sklearn.cluster import KMeans

        centres: Tensor = loop.method.heads[self.task].centres  # type: ignore[assignment]
        found = KMeans(len(centres), n_init=STARTS, random_state=loop.seed).fit(z.numpy())
        centres.copy_(torch.from_numpy(found.cluster_centers_))

    def _with_targets(self, batch: Batch) -> Batch:
        groups = []
        for group in batch.groups:
            targets = dict(group.targets)
            if self.task in targets:
                own = targets[self.task]
                assert isinstance(own.value, dict)
                p = self.p[self._numbers(batch)]
                targets[self.task] = Target({**own.value, "p": p}, own.rows)
            groups.append(Group(group.images, group.index, group.stream, targets, group.views))
        return Batch(groups)

    def state_dict(self) -> dict[str, Any]:
        return {"p": self.p, "clusters": self.clusters, "changed": self.changed}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        del device  # targets go to it batch by batch
        self.p, self.clusters, self.changed = state["p"], state["clusters"], state["changed"]

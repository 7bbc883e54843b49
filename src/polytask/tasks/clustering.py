"""Groups of images that nobody labelled, scored by the classes that some have.

Source: Xie, Girshick, Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016:
an autoencoder first, centres from k-means, then the network learns a sharper copy of its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.data.images import ImageSet
from polytask.errors import DataError, UserError
from polytask.tasks.columns import cells_of, class_names
from polytask.tasks.task import FeatureShape, Labels, Size, Task, TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from polytask.batch import Batch
    from polytask.loss import Term
    from polytask.phase import Phase
    from polytask.sharing.method import Outputs, SharingMethod


# Centres are as good as what they are found in: on digits, k-means on features of 10 epochs has an
# NMI of .62, on those of 40 epochs .76, on pixels .74; 10 epochs of targets add .03 to .05.
PATIENCE = 4


class ClusteringOptions(TaskOptions):
    """A column of classes, which only scores look at: training takes every image and no class."""

    label: str | None = Field(None, description="column of the classes that scores look at")
    clusters: int | None = Field(None, ge=2, le=10_000, description="as many as classes by default")
    width: int = Field(10, ge=1, le=4096, description="numbers in an image's embedding")
    autoencoder: int | None = Field(
        None,
        ge=0,
        description="epochs that learn to restore images first; 4 × train.epochs by default",
    )
    refine: bool = Field(
        True, description="false: k-means on what restores images, the baseline of DEC"
    )
    interval: int = Field(20, ge=1, description="steps between two targets made anew")
    tolerance: float = Field(
        0.001, ge=0, lt=1, description="share of images that change cluster below which it ends"
    )


class Clustering(Task):
    """Predicts a dict of `z` [B, D] and q [B, K]; a target is a dict with `class` [R], −1 unknown.

    Its phases: `autoencoder`, then those of the method, in which the rule `dec` finds the centres
    by k-means and gives every image its `p` [R, K] to learn; without one it is that of the batch.
    """

    primary = "nmi"
    Options = ClusteringOptions
    options: ClusteringOptions

    def read_labels(self, images: ImageSet) -> Labels:
        column = self.options.label or images.default_label
        if column is None:
            raise DataError.at(
                f"tasks.{self.name}.label",
                "missing; expected the column of the classes for scores.",
            )
        cells = cells_of(images, column, self.name)
        given = self.options.classes
        self.classes = list(given) if isinstance(given, list) else class_names(cells)
        numbers = {name: i for i, name in enumerate(self.classes)}
        found = np.array([numbers.get(str(cell), -1) for cell in cells])
        every = np.ones(len(images), bool)
        return Labels({"class": found.astype(np.int64)}, every)

    @property
    def clusters(self) -> int:
        """How many clusters are looked for."""
        count = self.options.classes
        known = count if isinstance(count, int) else len(self.classes)
        return self.options.clusters or max(2, known)

    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        from polytask.tasks.dec import Clusters

        del size
        return Clusters(features[-1], self.options.width, self.clusters)

    def loss(self, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
        from polytask.tasks.dec import divergence, target_distribution

        q = prediction["q"]
        p = target["p"] if "p" in target else target_distribution(q.detach())
        return divergence(p, q), torch.ones_like(q[:, 0])

    def planned(self, phases: Sequence[Phase], method: SharingMethod) -> list[Phase]:
        from polytask.phase import Phase
        from polytask.tasks.dec import Decoder

        others = [phase.name for phase in phases if phase.update != "joint"]
        if others:
            raise UserError.at(
                f"tasks.{self.name}",
                f"clustering needs phases of joint training; {', '.join(others)} is none.",
                "Choose another method, such as hard.",
            )
        rule = {"dec": {"task": self.name, "interval": self.options.interval}}
        own = [replace(phase, update=rule, until=self._is_settled) for phase in phases]
        if not self.options.refine:
            rule = {"dec": {"task": self.name, "interval": 0}}
            own = [replace(phases[0], update=rule, epochs=1, trainable=())]
        epochs = self.options.autoencoder
        if epochs == 0:
            return own
        size = method.setting.input_of(self.name)
        with method.setting.seeded("decoder", self.name):
            decoder = Decoder(self.options.width, (size.height, size.width))

        def embed(method: SharingMethod, batch: Batch) -> Outputs:
            outputs: Outputs = method(batch)
            found: Any = outputs.predictions[self.name]
            return replace(outputs, predictions={}, features={self.name: found["z"]})

        first = Phase(
            "autoencoder",
            epochs or PATIENCE * phases[0].epochs,
            tasks=(self.name,),
            trainable=("",),
            terms=(lambda batch, outputs: self._restored(decoder, batch, outputs),),
            modules={"decoder": decoder},
            forward=embed,
            extra=True,
        )
        return [first, *own]

    def _restored(self, decoder: Any, batch: Batch, outputs: Outputs) -> list[Term]:
        from polytask.loss import Term

        terms = []
        for name, group, target in batch:
            if name == self.name:
                images = target.labelled(group.images)
                value = decoder.loss(outputs.features[name], images)
                terms.append(Term("restored", name, value))
        return terms

    def _is_settled(self, run: Any) -> bool:
        return bool(run.rule.changed < self.options.tolerance)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from polytask.tasks.dec import ClusterScores

        return MetricCollection({"clusters": ClusterScores()})

    def scored(self, prediction: Any, target: Any) -> tuple[Any, Any]:
        return prediction, target["class"]

    def read(self, prediction: Any, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        del sizes
        rows = prediction["q"].float().tolist()
        best = [max(range(len(row)), key=row.__getitem__) for row in rows]
        return [
            {"cluster": k, "probability": row[k], "probabilities": row}
            for k, row in zip(best, rows, strict=True)
        ]

    def captions(self, target: Any) -> list[str]:
        return [self.classes[k] if k >= 0 else "unknown" for k in target["class"].tolist()]

    def chance(self, tallies: Any) -> dict[str, float]:
        """One cluster of all tells nothing."""
        return {"nmi": 0.0} if len(tallies["class"]) else {}

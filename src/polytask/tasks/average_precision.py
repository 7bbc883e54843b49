"""Mean average precision of detections, by both definitions of PASCAL VOC and by COCO's.

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010 (11 points; all
points since 2010); Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation (101 points, the
mean over IoU .50, .55, …, .95, of each class at most 100 detections an image).

Differs from both: objects marked as difficult (VOC) or as crowds (COCO) are not read, so that what
is found of them counts as wrong; both evaluations leave such detections out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchvision.ops import box_iou

LEVELS = [0.5 + 0.05 * k for k in range(10)]
MOST = 100  # detections of a class in an image that COCO counts


class AveragePrecision(Metric):
    """`map` (VOC, 11 points), `map_all_points` (VOC) and `map_coco` over classes with a box.

    Updated with lists of {boxes [D, 4], scores [D], classes [D]} and {boxes [M, 4], classes [M]}.
    """

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    hits: list[Tensor]
    counted: list[Tensor]
    counts: Tensor

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        for name in ("scores", "labels", "hits", "counted"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state("counts", torch.zeros(classes), dist_reduce_fx="sum")

    def update(
        self, found: Sequence[Mapping[str, Tensor]], wanted: Sequence[Mapping[str, Tensor]]
    ) -> None:
        """Match the detections of some images with their boxes."""
        for one, true in zip(found, wanted, strict=True):
            self.counts += torch.bincount(true["classes"], minlength=len(self.counts))
            order = one["scores"].argsort(descending=True, stable=True)
            boxes, labels = one["boxes"][order], one["classes"][order]
            hits = torch.zeros(len(order), 1 + len(LEVELS), dtype=torch.bool, device=boxes.device)
            counted = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
            for label in set(labels.tolist()):
                mine = labels == label
                iou = box_iou(boxes[mine], true["boxes"][true["classes"] == label])
                hits[mine] = torch.stack(
                    [voc_hits(iou), *(coco_hits(iou[:MOST], level, len(iou)) for level in LEVELS)],
                    1,
                )
                counted[mine] = torch.arange(len(iou), device=boxes.device) < MOST
            self.scores.append(one["scores"][order])
            self.labels.append(labels)
            self.hits.append(hits)
            self.counted.append(counted)

    def compute(self) -> dict[str, Tensor]:
        """The three means, 0 to 1."""
        parts = (self.scores, self.labels, self.hits, self.counted)
        scores, labels, hits, counted = (_cat(part) for part in parts)
        order = scores.argsort(descending=True, stable=True)
        labels, hits, counted = labels[order], hits[order], counted[order]
        by: dict[str, list[Tensor]] = {"map": [], "map_all_points": [], "map_coco": []}
        for label in self.counts.nonzero().flatten().tolist():
            mine, boxes = hits[labels == label], self.counts[label]
            by["map"].append(points_precision(mine[:, 0], boxes, 11))
            by["map_all_points"].append(area_precision(mine[:, 0], boxes))
            mine = hits[(labels == label) & counted]
            levels = [points_precision(mine[:, k], boxes, 101) for k in range(1, mine.shape[1])]
            by["map_coco"].append(torch.stack(levels).mean())
        nothing = torch.zeros((), device=self.counts.device)
        return {n: torch.stack(each).mean() if each else nothing for n, each in by.items()}


def _cat(state: list[Tensor] | Tensor) -> Tensor:
    return torch.cat(state) if isinstance(state, list) else state


def voc_hits(iou: Tensor, level: float = 0.5) -> Tensor:
    """Which of D detections, the surest first, find one of M boxes [D, M]: their best, once."""
    hits = torch.zeros(len(iou), dtype=torch.bool, device=iou.device)
    used: set[int] = set()
    for i, row in enumerate(iou if iou.shape[1] else ()):
        best = int(row.argmax())
        if row[best] >= level and best not in used:
            hits[i] = True
            used.add(best)
    return hits


def coco_hits(iou: Tensor, level: float, count: int) -> Tensor:
    """The same by COCO's rule: the best of those that no surer one has found; [count]."""
    hits = torch.zeros(count, dtype=torch.bool, device=iou.device)
    left = iou.clone()
    for i in range(len(iou) if iou.shape[1] else 0):
        value, best = left[i].max(0)
        if value >= level:
            hits[i] = True
            left[:, best] = -1
    return hits


def _curve(hits: Tensor, boxes: Tensor | float) -> tuple[Tensor, Tensor]:
    """Recall, and the highest precision at that recall or a larger one, after each detection."""
    true = hits.cumsum(0).double()
    precision = true / torch.arange(1, len(hits) + 1, device=hits.device)
    return true / boxes, precision.flip(0).cummax(0).values.flip(0)


def points_precision(hits: Tensor, boxes: Tensor | float, points: int) -> Tensor:
    """The mean over recalls 0, 1/(points − 1), …, 1 of the precision reached there."""
    recall, precision = _curve(hits, boxes)
    wanted = torch.linspace(0, 1, points, dtype=torch.float64, device=hits.device)
    place = torch.searchsorted(recall, wanted - 1e-12)
    return torch.cat([precision, precision.new_zeros(1)])[place].mean()


def area_precision(hits: Tensor, boxes: Tensor | float) -> Tensor:
    """The area under the curve: Σ precision · rise of recall."""
    recall, precision = _curve(hits, boxes)
    return (torch.diff(recall, prepend=recall.new_zeros(1)) * precision).sum()

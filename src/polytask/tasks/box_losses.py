"""How far a box is from the one it should be, for boxes [R, 4] as (x0, y0, x1, y1).

Source: IoU and GIoU: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019;
DIoU: Zheng et al., "Distance-IoU Loss", AAAI 2020, eq. 7: 1 − IoU + ρ² / d², both lengths squared.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Keeps quotients finite where both boxes are empty; areas are products of pixels.
LEAST = 1e-9


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each pair, [R]; an inverted box counts as empty."""
    intersection, union = _areas(boxes, others)
    return intersection / union.clamp(min=LEAST)


def iou_loss(boxes: Tensor, others: Tensor) -> Tensor:
    """1 − IoU, [R]: no gradient where the boxes do not meet."""
    return 1 - iou(boxes, others)


def giou_loss(boxes: Tensor, others: Tensor) -> Tensor:
    """1 − IoU + the share of the enclosing box that neither covers, [R]."""
    _, union = _areas(boxes, others)
    hull = _hull(boxes, others).prod(-1)
    return iou_loss(boxes, others) + (hull - union) / hull.clamp(min=LEAST)


def diou_loss(boxes: Tensor, others: Tensor) -> Tensor:
    """1 − IoU + (distance of the centres / diagonal of the enclosing box)², [R]."""
    apart = (boxes[:, :2] + boxes[:, 2:] - others[:, :2] - others[:, 2:]) / 2
    diagonal = _hull(boxes, others).square().sum(-1)
    return iou_loss(boxes, others) + apart.square().sum(-1) / diagonal.clamp(min=LEAST)


def l1_loss(boxes: Tensor, others: Tensor) -> Tensor:
    """The mean distance of the four coordinates, [R]."""
    return (boxes - others).abs().mean(-1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": l1_loss,
    "iou": iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
}


def _areas(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of each pair."""
    corner = torch.maximum(boxes[:, :2], others[:, :2])
    opposite = torch.minimum(boxes[:, 2:], others[:, 2:])
    intersection = (opposite - corner).clamp(min=0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) for b in (boxes, others)]
    return intersection, areas[0] + areas[1] - intersection


def _hull(boxes: Tensor, others: Tensor) -> Tensor:
    """Width and height of the smallest box around each pair, [R, 2]."""
    corner = torch.minimum(boxes[:, :2], others[:, :2])
    return (torch.maximum(boxes[:, 2:], others[:, 2:]) - corner).clamp(min=0)

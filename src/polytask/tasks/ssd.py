"""The parts of the single-shot detector: maps, priors, matching and what they say in the end.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, with torchvision's pieces, some
of which are not public there; nothing else in polytask imports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSDHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from polytask.tasks.task import FeatureShape, Size

CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))  # the paper's variances .1 and .2
SSD300 = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
STEPS300 = [8, 16, 32, 64, 100, 300]  # pixels between the priors' centres
SMALL = [0.12, 0.3, 0.6, 0.95]
LARGE = 256  # pixels of the shorter side


def scales_at(size: Size) -> list[float]:
    """The sizes of the priors of each map, and one more, as shares of an image of `size`."""
    return SSD300 if min(size) >= LARGE else SMALL


class SSD(nn.Module):
    """Two maps [B, Cᵢ, Hᵢ, Wᵢ] → offsets [B, P, 4] and logits [B, P, 1 + K] of P priors.

    Maps of 256 pixels and more get the paper's six maps (8732 priors at 300): a dilated block on
    the second, then four smaller ones. Smaller images get three maps: one more beyond the two.
    """

    priors: Tensor
    size: Tensor

    def __init__(
        self,
        features: Sequence[FeatureShape],
        size: Size,
        classes: int,
        width: int,
        scales: Sequence[float] | None,
    ) -> None:
        super().__init__()
        first, second = features
        is_large = min(size) >= LARGE
        self.rescale = nn.Parameter(torch.full((first.channels, 1, 1), 20.0))
        outs = [2 * width, width, width, width] if is_large else [width]
        self.blocks = nn.ModuleList([_dilated(second.channels, 4 * width)] if is_large else [])
        channels = 4 * width if is_large else second.channels
        maps = [first, FeatureShape(channels, second.height, second.width)]
        self.extra = nn.ModuleList()
        for out in outs:
            before = maps[-1]
            shrinks = not 3 <= min(before.height, before.width) <= 5
            self.extra.append(_smaller(before.channels, out, shrinks))
            maps.append(
                FeatureShape(out, _after(before.height, shrinks), _after(before.width, shrinks))
            )
        ratios = [[2], *[[2, 3]] * (3 if is_large else 1), *[[2]] * (2 if is_large else 1)]
        with torch.device("cpu"):  # torchvision computes boxes there, even for a network on meta
            self.generator = DefaultBoxGenerator(
                ratios,
                scales=list(scales or scales_at(size)),
                steps=STEPS300 if is_large and size == (300, 300) else None,
            )
            priors = self._priors(maps, size)
        counts = self.generator.num_anchors_per_location()
        self.layers = SSDHead([m.channels for m in maps], counts, classes + 1)
        # Known from the sizes alone, so they are in no file of weights.
        self.register_buffer("priors", priors.to(torch.get_default_device()), persistent=False)
        self.register_buffer("size", torch.tensor(size[::-1]).float(), persistent=False)

    def _priors(self, maps: Sequence[FeatureShape], size: Size) -> Tensor:
        """[P, 4] as (x0, y0, x1, y1) in pixels of the network's image."""
        blank = ImageList(torch.zeros(1, 1, *size), [size])
        grids = [torch.zeros(1, 1, m.height, m.width) for m in maps]
        return cast(Tensor, self.generator(blank, grids)[0])

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        first, last = maps
        read = [F.normalize(first) * self.rescale]
        for block in self.blocks:
            last = block(last)
        read.append(last)
        for block in self.extra:
            read.append(block(read[-1]))
        # torchvision's head cannot tell the shape of nothing: it sees one blank image instead.
        seen = read if len(first) else [m.new_zeros(1, *m.shape[1:]) for m in read]
        found = self.layers(seen)
        return {
            "offsets": found["bbox_regression"][: len(first)],
            "logits": found["cls_logits"][: len(first)],
            "priors": self.priors.expand(len(first), -1, -1),
            "size": self.size.expand(len(first), -1),
        }


def _dilated(inputs: int, outputs: int) -> nn.Module:
    """fc6 and fc7 as convolutions (à trous), behind a pool that keeps the size."""
    return nn.Sequential(
        nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(inputs, outputs, 3, padding=6, dilation=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
        nn.ReLU(inplace=True),
    )


def _smaller(inputs: int, outputs: int, shrinks: bool) -> nn.Module:
    """Half the size, or two cells less as the paper's last maps."""
    stride, padding = (2, 1) if shrinks else (1, 0)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs // 2, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs // 2, outputs, 3, stride, padding),
        nn.ReLU(inplace=True),
    )


def _after(cells: int, shrinks: bool) -> int:
    return (cells + 1) // 2 if shrinks else cells - 2


def match(boxes: Tensor, priors: Tensor) -> Tensor:
    """The box [M, 4] that each prior [P, 4] should find, −1 for none: [P].

    Its best one with an IoU of .5 and more; and the best prior of every box has to find it.
    """
    if not len(boxes):
        return torch.full((len(priors),), -1, device=priors.device)
    return cast(Tensor, SSDMatcher(0.5)(box_iou(boxes, priors)))


def ssd_loss(
    offsets: Tensor, logits: Tensor, priors: Tensor, boxes: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """(loss, positives) of one image: smooth L1 of positives, cross-entropy of these and of three
    times as many negatives, those with the highest loss.

    Args:
        offsets: [P, 4] from the priors, in the paper's encoding.
        logits: [P, 1 + K], the background first.
        priors: [P, 4] in pixels.
        boxes: [M, 4] in pixels, and `classes` [M] from 0.
    """
    found = match(boxes, priors)
    positive = found >= 0
    count = positive.sum()
    wanted = torch.zeros_like(found)
    wanted[positive] = classes[found[positive]] + 1
    each = F.cross_entropy(logits, wanted, reduction="none")
    negatives = min(3 * int(count), len(found) - int(count))
    hard = each.masked_fill(positive, -torch.inf).topk(negatives).values
    encoded = CODER.encode_single(boxes[found[positive]], priors[positive])
    place = F.smooth_l1_loss(offsets[positive], encoded, reduction="sum")
    return place + each[positive].sum() + hard.sum(), count


def detections(
    offsets: Tensor, logits: Tensor, priors: Tensor, size: Size, least: float, overlap: float
) -> dict[str, Tensor]:
    """Boxes [D, 4], scores [D] and classes [D] of one image, at most 200, the surest first."""
    boxes = clip_boxes_to_image(CODER.decode_single(offsets, priors), size)
    scores = logits.softmax(-1)[:, 1:]
    place, label = (scores > least).nonzero(as_tuple=True)
    kept = scores[place, label]
    chosen = kept.topk(min(400 * scores.shape[1], len(kept))).indices
    place, label, kept = place[chosen], label[chosen], kept[chosen]
    left = batched_nms(boxes[place], kept, label, overlap)[:200]
    return {"boxes": boxes[place][left], "scores": kept[left], "classes": label[left]}

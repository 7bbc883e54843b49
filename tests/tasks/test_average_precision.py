"""Average precision against the worked numbers and a slow reading of the definitions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.tasks.average_precision import (
    AveragePrecision,
    area_precision,
    coco_hits,
    points_precision,
    voc_hits,
)


def test_worked_numbers():
    hits = torch.tensor([True, False, True, True])
    assert_close(points_precision(hits, 4, 11).item(), 0.613636, atol=1e-6, rtol=0)
    assert_close(area_precision(hits, 4).item(), 0.625000, atol=1e-6, rtol=0)


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_points_and_area_follow_their_definitions(hits, missed):
    boxes = sum(hits) + missed
    if not boxes:
        return
    curve = [(sum(hits[:k]) / boxes, sum(hits[:k]) / k) for k in range(1, len(hits) + 1)]
    for points in (11, 101):
        levels = [i / (points - 1) for i in range(points)]
        best = [max((p for r, p in curve if r >= level - 1e-9), default=0) for level in levels]
        found = points_precision(torch.tensor(hits, dtype=torch.bool), boxes, points).item()
        assert_close(found, sum(best) / points)
    area, last = 0.0, 0.0
    for recall, _ in curve:
        area += (recall - last) * max(p for r, p in curve if r >= recall)
        last = recall
    assert_close(area_precision(torch.tensor(hits, dtype=torch.bool), boxes).item(), area)


def test_voc_and_coco_match_a_second_answer_differently():
    """Both answers fit the first box best; COCO lets the less sure one take the other box."""
    iou = torch.tensor([[0.9, 0.1], [0.8, 0.6]])
    assert voc_hits(iou).tolist() == [True, False]
    assert coco_hits(iou, 0.5, 2).tolist() == [True, True]


def test_coco_leaves_out_what_an_image_says_beyond_100_of_a_class():
    """200 wrong answers, then a right one of another image: precision 1/101 by COCO, 1/201 else."""
    wrong = {
        "boxes": torch.tensor([[0.0, 0, 1, 1]]).repeat(200, 1),
        "scores": torch.linspace(0.9, 0.5, 200),
        "classes": torch.zeros(200, dtype=torch.long),
    }
    box = {"boxes": torch.tensor([[2.0, 2, 8, 8]]), "classes": torch.tensor([0])}
    none = {"boxes": torch.zeros(0, 4), "classes": torch.zeros(0, dtype=torch.long)}
    metric = AveragePrecision(1)
    metric.update([wrong, {**box, "scores": torch.tensor([0.1])}], [none, box])
    found = metric.compute()
    assert_close(found["map"].item(), 1 / 201)
    assert_close(found["map_coco"].item(), 1 / 101)


def perfect():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 9, 9]])
    return {"boxes": boxes, "classes": torch.tensor([0, 1, 1])}


def test_perfect_answers_score_one_and_none_scores_zero():
    true = perfect()
    metric = AveragePrecision(3)  # a class without a box does not count
    metric.update([{**true, "scores": torch.tensor([0.9, 0.8, 0.7])}], [true])
    assert {n: round(v.item(), 6) for n, v in metric.compute().items()} == {
        "map": 1.0,
        "map_all_points": 1.0,
        "map_coco": 1.0,
    }
    nothing = AveragePrecision(3)
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    nothing.update([{**none, "classes": torch.zeros(0, dtype=torch.long)}], [true])
    assert not any(nothing.compute().values())


def test_order_of_images_and_of_answers_does_not_matter():
    torch.manual_seed(0)
    found, true = [], []
    for _ in range(6):
        corner = torch.rand(4, 2) * 20
        boxes = torch.cat([corner, corner + 5 + torch.rand(4, 2) * 9], 1)
        classes = torch.randint(0, 2, (4,))
        true.append({"boxes": boxes, "classes": classes})
        moved = boxes + torch.randn(4, 4) * 1.5
        found.append({"boxes": moved, "classes": classes, "scores": torch.rand(4)})
    one, other = AveragePrecision(2), AveragePrecision(2)
    one.update(found, true)
    for image in reversed(range(6)):
        order = torch.randperm(4)
        shuffled = {key: value[order] for key, value in found[image].items()}
        other.update([shuffled], [true[image]])
    for name, value in one.compute().items():
        assert 0 < value < 1
        assert_close(value, other.compute()[name])

"""One box an image: the published losses, edges that scale, and faults named with their rows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchvision.ops import distance_box_iou_loss, generalized_box_iou_loss

from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.box import Box, BoxOptions
from polytask.tasks.box_losses import LOSSES, iou
from polytask.tasks.task import FeatureShape

EDGES = ["x0", "y0", "x1", "y1"]
# METHODS §5.2: two boxes, IoU, squared distance of centres, squared diagonal, DIoU loss
PUBLISHED = [
    ((0, 0, 4, 4), (2, 2, 6, 6), 0.142857, 8, 72, 0.968254),
    ((0, 0, 2, 2), (3, 3, 5, 5), 0, 18, 50, 1.36),
    ((1, 1, 5, 4), (2, 0, 6, 6), 0.333333, 1.25, 61, 0.687158),
    ((10, 20, 110, 140), (30, 40, 130, 160), 0.5, 800, 34000, 0.523529),
    ((3, 1, 5, 9), (3, 1, 5, 9), 1, 0, 68, 0),
]
boxes_of = st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def task(**options):
    return Box("where", BoxOptions(kind="box", **options))


def pair(one, other):
    return torch.tensor([one]).double(), torch.tensor([other]).double()


@pytest.mark.parametrize(("one", "other", "overlap", "apart", "diagonal", "loss"), PUBLISHED)
def test_the_published_numbers(one, other, overlap, apart, diagonal, loss):
    for a, b in (pair(one, other), pair(other, one)):
        assert float(iou(a, b)) == pytest.approx(overlap, abs=1e-6)
        assert float(LOSSES["iou"](a, b)) == pytest.approx(1 - overlap, abs=1e-6)
        assert float(LOSSES["diou"](a, b)) == pytest.approx(loss, abs=1e-6)
    assert loss == pytest.approx(1 - overlap + apart / diagonal, abs=1e-6)


@pytest.mark.parametrize(("row", "loss"), [(0, 1.079365), (1, 1.68)])
def test_the_published_generalised_iou(row, loss):
    one, other, *_ = PUBLISHED[row]
    assert float(LOSSES["giou"](*pair(one, other))) == pytest.approx(loss, abs=1e-6)


@given(st.lists(st.tuples(boxes_of, boxes_of), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_losses_agree_with_torchvision(pairs):
    one, other = (torch.tensor(side).double() for side in zip(*pairs, strict=True))
    assert_close(LOSSES["diou"](one, other), distance_box_iou_loss(one, other), atol=1e-6, rtol=0)
    assert_close(
        LOSSES["giou"](one, other), generalized_box_iou_loss(one, other), atol=1e-6, rtol=0
    )
    assert_close(LOSSES["l1"](one, other), (one - other).abs().sum(1) / 4)


@pytest.mark.parametrize("name", LOSSES)
def test_inverted_and_empty_boxes_keep_losses_and_gradients_finite(name):
    """Two negative sides must not make a positive area."""
    strange = torch.tensor([[5.0, 5, 1, 1], [2, 2, 2, 2], [0, 0, 0, 0]], requires_grad=True)
    true = torch.tensor([[1.0, 1, 5, 5], [2, 2, 2, 2], [0, 0, 4, 4]])
    assert iou(strange, true).tolist() == [0, 0, 0]
    loss = LOSSES[name](strange, true)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(strange.grad).all()


def target(boxes, width, height):
    return {
        "boxes": torch.tensor(boxes).float(),
        "size": torch.tensor([[width, height]] * len(boxes)).float(),
    }


@pytest.mark.parametrize("name", ["iou", "giou", "diou"])
def test_overlap_is_measured_in_pixels(name):
    """Images need not be square: the published numbers hold in an image of 12 × 8 pixels."""
    one, other, *_ = PUBLISHED[2]
    predicted = torch.tensor([one]) / torch.tensor([12, 8, 12, 8])
    loss, weight = task(loss=name).loss(predicted, target([other], 12, 8))
    assert_close(loss.double(), LOSSES[name](*pair(one, other)), atol=1e-6, rtol=0)
    assert weight.tolist() == [1]


def test_l1_is_measured_in_parts_of_the_image():
    predicted = torch.tensor([[0.0, 0, 1, 1]])
    loss, _ = task(loss="l1").loss(predicted, target([[5, 0, 10, 10]], 10, 20))
    assert float(loss) == pytest.approx((0.5 + 0 + 0 + 0.5) / 4)


@pytest.mark.parametrize("name", LOSSES)
def test_a_box_that_a_crop_left_nothing_of_counts_for_nothing(name):
    predicted = torch.tensor([[0.1, 0.1, 0.4, 0.4]] * 2)
    loss, weight = task(loss=name).loss(predicted, target([[0, 3, 0, 9], [2, 3, 4, 9]], 10, 10))
    assert weight.tolist() == [0, 1]
    assert float(loss[0]) == 0
    assert float(loss[1]) > 0


def test_scores_are_the_mean_overlap_and_the_share_above_a_half():
    made = task()
    metrics = made.metrics()
    metrics.update(
        *made.scored(
            torch.tensor([[-0.2, 0, 1, 1.5], [0, 0, 0.5, 1]]),  # cut to the picture
            target([[0, 0, 10, 20], [0, 0, 10, 20]], 10, 20),
        )
    )
    predicted = torch.tensor([[0.5, 0.5, 1, 1], [0, 0, 0.3, 0.3]])
    metrics.update(*made.scored(predicted, target([[4, 10, 10, 20], [6, 10, 10, 20]], 10, 20)))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["iou"] == pytest.approx((1 + 1 / 2 + 5 / 6 + 0) / 4)
    assert found["accuracy_50"] == pytest.approx(2 / 4)  # a half is not above a half


def test_chance_is_the_median_box():
    boxes = [[0, 0, 2, 2], [0, 0, 2, 4], [0, 0, 8, 4]]
    found = task().chance(target(boxes, 8, 8))
    assert found["iou"] == pytest.approx((4 / 8 + 1 + 8 / 32) / 3)


def test_a_user_reads_pixels_of_the_file_within_the_picture():
    predicted = torch.tensor([[0.25, 0.5, 0.75, 1.0], [-0.1, 0.2, 0.5, 1.3]])
    first, second = task().read(predicted, [(20, 40), (10, 10)])
    assert first["box"] == pytest.approx([10, 10, 30, 20])
    assert second["box"] == pytest.approx([0, 2, 5, 10])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (7, 9), (8, 2)])
def test_the_head_gives_boxes_that_are_never_inverted(height, width):
    torch.manual_seed(0)
    head = task().head([FeatureShape(6, height, width)], (32, 32))
    found = head(20 * torch.randn(50, 6, height, width))
    assert found.shape == (50, 4)
    centre = (found[:, :2] + found[:, 2:]) / 2
    assert (found[:, 2:] >= found[:, :2]).all()
    assert ((centre >= 0) & (centre <= 1)).all()
    assert head(torch.zeros(0, 6, height, width)).shape == (0, 4)


def test_the_head_tells_where_things_are():
    """The same object in another corner moves the box: a pooled map would not know."""
    torch.manual_seed(0)
    head = task().head([FeatureShape(2, 8, 8)], (32, 32))
    maps = torch.zeros(2, 2, 8, 8)
    maps[0, :, 0, 0] = maps[1, :, 7, 7] = 5
    assert not torch.allclose(*head(maps))


def read(rows, label=EDGES):
    columns = {
        name: list(cells) for name, cells in zip(EDGES, zip(*rows, strict=True), strict=True)
    }
    places = [f"shelf.csv:{i + 2}" for i in range(len(rows))]
    images = ImageSet("shelf", np.zeros((len(rows), 4, 4)), columns, places=places)
    made = task(label=label)
    return made, images, made.read_labels(images)


def test_boxes_scale_with_their_image():
    made, images, labels = read([("1", "2.5", "10", "20"), (None,) * 4, (0, 0, 40, 20)])
    assert labels.present.tolist() == [True, False, True]
    sizes = np.array([[20, 10], [20, 10], [20, 40]])
    fitted = made.fit_labels(images, labels, sizes, (40, 80))
    assert fitted.value["boxes"][[0, 2]].tolist() == [[8, 5, 80, 40], [0, 0, 80, 40]]
    assert fitted.value["size"].tolist() == [[80, 40]] * 3


def test_cells_that_are_no_box_are_told_with_their_rows():
    rows = [
        (1, 1, 2, 2),
        (1, None, 2, 2),
        (1, 1, "wide", 2),
        (1, 1, math.inf, 2),
        (5, 1, 2, 2),
        (1, 3, 2, 3),
    ]
    with pytest.raises(DataError) as caught:
        read(rows)
    assert [str(fault) for fault in caught.value.faults] == [
        "shelf.csv:3: y0: blank; expected a number, or all of x0, y0, x1, y1 blank.",
        'shelf.csv:4: x1: got "wide"; expected a number of pixels.',
        'shelf.csv:5: x1: got "inf"; expected a number of pixels.',
        "shelf.csv:6: x0 5 and x1 2: the box is inverted; expected x0 below x1.",
        "shelf.csv:7: y0 3 and y1 3: the box is empty; expected y0 below y1.",
    ]


def test_boxes_outside_their_image_are_told():
    rows = [(0, 0, 10, 20), (-1, 0, 5, 5), (0, 0, 11, 5), (0, 0, 99, 99)]
    made, images, labels = read(rows)
    sizes = np.array([[20, 10], [20, 10], [20, 10], [0, 0]])
    with pytest.raises(DataError) as caught:
        made.fit_labels(images, labels, sizes, (4, 4))
    assert [str(fault) for fault in caught.value.faults] == [
        "shelf.csv:3: box -1, 0, 5, 5 reaches outside its image of 10 × 20 pixels.",
        "shelf.csv:4: box 0, 0, 11, 5 reaches outside its image of 10 × 20 pixels.",
    ]


def test_a_column_that_is_not_there_is_told_with_the_nearest():
    with pytest.raises(DataError, match=r'no column "x0_".*Did you mean "x0"'):
        read([(1, 1, 2, 2)], ["x0_", "y0", "x1", "y1"])

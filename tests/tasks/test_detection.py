"""Detection: priors, encoding, matching, hard negatives and labels against worked numbers."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polytask.data.images import ImageSet
from polytask.errors import ConfigError, DataError
from polytask.tasks.detection import Detection, DetectionOptions, objects
from polytask.tasks.ssd import CODER, SSD, detections, match, ssd_loss
from polytask.tasks.task import FeatureShape


def task(**options):
    return Detection("find", DetectionOptions(kind="detection", **options))


def test_ssd300_has_8732_priors():
    maps = [FeatureShape(16, 38, 38), FeatureShape(16, 19, 19)]
    head = SSD(maps, (300, 300), classes=20, width=8, scales=None)
    assert head.priors.shape == (8732, 4)
    first = head.priors[0] / 300  # centre 4 / 300, scale .07
    assert_close(first[:2] + first[2:], torch.full((2,), 8 / 300))
    assert_close(first[2:] - first[:2], torch.full((2,), 0.07))
    found = head([torch.randn(2, 16, 38, 38), torch.randn(2, 16, 19, 19)])
    assert found["offsets"].shape == (2, 8732, 4)
    assert found["logits"].shape == (2, 8732, 21)


def test_priors_have_a_size_for_each_map_and_one_more():
    made = task(scales=[0.1, 0.5], classes=["cell"])
    maps = [FeatureShape(4, 16, 16), FeatureShape(4, 8, 8)]
    with pytest.raises(ConfigError, match=r"tasks\.find\.scales: got 2 numbers; expected 4"):
        made.head(maps, (64, 64))
    with pytest.raises(ConfigError, match="expected 7"):
        made.head(maps, (300, 300))


@pytest.mark.parametrize("side", [64, 96, 128])
def test_small_images_get_three_maps(side):
    cells = side // 4, side // 8
    maps = [FeatureShape(4, c, c) for c in cells]
    head = SSD(maps, (side, side), classes=2, width=8, scales=None)
    assert len(head.priors) == 4 * cells[0] ** 2 + 6 * cells[1] ** 2 + 4 * (cells[1] // 2) ** 2
    found = head([torch.randn(1, 4, c, c) for c in cells])
    assert found["offsets"].shape[1] == found["logits"].shape[1] == len(head.priors)


def test_vgg16_gives_the_papers_maps():
    from polytask import backbones

    shapes = backbones.build("vgg16", width=0.0625).shapes(3, 300, 300)
    assert shapes["features.21"][1:] == (38, 38)
    assert shapes["features.28"][1:] == (19, 19)


def test_worked_encoding():
    truth = torch.tensor([[0.2, 0.3, 0.6, 0.9]])
    prior = torch.tensor([[0.3, 0.3, 0.7, 0.7]])
    encoded = CODER.encode_single(truth, prior)
    assert_close(encoded, torch.tensor([[-2.5, 2.5, 0.0, 2.027326]]), atol=1e-6, rtol=0)
    smooth = torch.nn.functional.smooth_l1_loss(
        encoded, torch.zeros_like(encoded), reduction="none"
    )
    assert_close(smooth, torch.tensor([[2.0, 2.0, 0.0, 1.527326]]), atol=1e-6, rtol=0)
    assert_close(smooth.sum().item(), 5.527326, atol=1e-6, rtol=0)
    assert_close(CODER.decode_single(encoded, prior), truth)
    assert not CODER.encode_single(prior, prior).any()
    assert match(truth, torch.cat([prior, truth])).tolist() == [-1, 0]  # IoU .428571


def test_every_box_has_a_prior_and_a_prior_one_box_at_most():
    torch.manual_seed(0)
    corner = torch.rand(40, 2)
    priors = torch.cat([corner, corner + 0.05 + torch.rand(40, 2) / 2], 1)
    boxes = priors[:6] + torch.randn(6, 4) * 0.01
    found = match(boxes, priors)
    assert found.shape == (40,)
    assert set(range(6)) <= set(found.tolist())
    assert match(boxes[:0], priors).tolist() == [-1] * 40


def test_loss_takes_three_hard_negatives_a_positive():
    priors = torch.tensor([[10.0 * k, 0, 10 * k + 10, 10] for k in range(8)])
    logits = torch.zeros(8, 3)
    logits[:, 1] = torch.arange(8.0)
    loss, positives = ssd_loss(torch.zeros(8, 4), logits, priors, priors[:1], torch.tensor([1]))
    each = -logits.log_softmax(-1)
    wanted = each[0, 2] + each[7, 0] + each[6, 0] + each[5, 0]
    assert positives == 1
    assert_close(loss, wanted)


def test_an_image_without_boxes_adds_nothing():
    head = SSD([FeatureShape(2, 8, 8), FeatureShape(2, 4, 4)], (32, 32), 2, 4, None)
    prediction = head([torch.randn(2, 2, 8, 8), torch.randn(2, 2, 4, 4)])
    boxes = torch.tensor([[[4.0, 4, 20, 24], [0, 0, 0, 0]], [[5.0, 0, 5, 9], [0, 0, 0, 0]]])
    target = {"boxes": boxes, "classes": torch.tensor([[1, -1], [0, -1]]), "size": None}
    loss, weight = task(classes=2).loss(prediction, target)
    assert weight[0] >= 1
    assert loss[0] > 0
    assert loss[1] == weight[1] == 0  # its box was cropped away


def test_overlapping_answers_of_a_class_are_one():
    priors = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [20.0, 20, 30, 30]])
    logits = torch.tensor([[0.0, 3, 0], [0.0, 2, 0], [0.0, 0, 1]])
    found = detections(torch.zeros(3, 4), logits, priors, (32, 32), 0.4, 0.45)
    assert found["classes"].tolist() == [0, 1]
    assert_close(found["boxes"], priors[[0, 2]])


@pytest.mark.parametrize(
    "cell",
    ["cat 1 2 3 4.5; big dog 0 0 9 9", [("cat", 1, 2, 3, 4.5), ("big dog", 0, 0, 9, 9)]],
)
def test_cells_tell_of_objects(cell):
    assert objects(cell) == [("cat", 1, 2, 3, 4.5), ("big dog", 0, 0, 9, 9)]


def test_an_image_without_objects_is_labelled_all_the_same():
    cells = ["cat 1 2 3 4", "none", None, []]
    images = ImageSet("pets", np.zeros((4, 8, 8, 3), np.uint8), {"boxes": cells})
    labels = task().read_labels(images)
    assert labels.present.tolist() == [True, True, False, True]
    assert (labels.value["classes"] >= 0).sum() == 1


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("cat 1 2 3", "a class and four numbers"),
        ("cat 3 2 1 4", "inverted"),
        ("cat 1 2 nan 4", "inverted"),
        (7, "expected boxes such as"),
    ],
)
def test_faults_of_cells_are_told_with_their_row(cell, told):
    images = ImageSet("pets", np.zeros((1, 8, 8, 3), np.uint8), {"boxes": [cell]}, places=["a:2"])
    with pytest.raises(DataError, match=rf"a:2.*{told}"):
        task().read_labels(images)


def test_boxes_follow_the_resize_and_stay_inside():
    images = ImageSet("pets", np.zeros((1, 20, 10, 3), np.uint8), {"boxes": ["cat 1 2 10 20"]})
    found = task()
    labels = found.read_labels(images)
    sizes = np.array([[20, 10]])
    value = found.fit_labels(images, labels, sizes, (40, 40)).value
    assert value["boxes"][0, 0].tolist() == [4, 4, 40, 40]
    with pytest.raises(DataError, match="reaches outside"):
        found.fit_labels(images, labels, np.array([[19, 10]]), (40, 40))


def test_answers_are_in_pixels_of_the_file():
    head = SSD([FeatureShape(2, 8, 8), FeatureShape(2, 4, 4)], (32, 32), 2, 4, None)
    made = head([torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4)])
    place = 100
    logits = torch.full_like(made["logits"], 0.0)
    logits[..., 0] = 9
    logits[0, place] = torch.tensor([0.0, 0, 9])
    prediction = {**made, "logits": logits, "offsets": made["offsets"] * 0}
    found = task(classes=["cat", "dog"])
    (answer,) = found.read(prediction, [(64, 96)])
    (box,) = answer["boxes"]
    assert box["class"] == "dog"
    assert math.isclose(box["score"], 1, abs_tol=1e-3)
    wanted = head.priors[place].clamp(0, 32) * torch.tensor([3.0, 2, 3, 2])
    assert_close(torch.tensor(box["box"]), wanted)

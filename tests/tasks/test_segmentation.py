"""Classes of pixels: ignored ones count for nothing, and a mask goes back to the file's pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.segmentation import Segmentation, SegmentationOptions
from polytask.tasks.task import FeatureShape, Labels

CLASSES = ["background", "object"]
PREDICTED = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 1]]])
TRUE = torch.tensor([[[0, 0, 0, 1], [0, 0, 1, 1]]])


def task(classes=CLASSES, **options):
    return Segmentation(
        "outline", SegmentationOptions(kind="segmentation", classes=classes, **options)
    )


def logits_of(mask, classes=2):
    return 9 * torch.nn.functional.one_hot(mask, classes).permute(0, 3, 1, 2).float()


def scores(made, *pairs):
    metrics = made.metrics()
    for prediction, mask in pairs:
        metrics.update(*made.scored(prediction, {"mask": mask}))
    return {name: float(value) for name, value in metrics.compute().items()}


def naive_scores(predicted, true, classes):
    """mIoU over the classes that occur, IoU of each, share of right pixels; pixel by pixel."""
    pairs = [(int(p), int(t)) for p, t in zip(predicted.flatten(), true.flatten(), strict=True)]
    pairs = [(p, t) for p, t in pairs if t != 255]
    each = []
    for k in range(classes):
        both = sum(p == t == k for p, t in pairs)
        either = sum(k in (p, t) for p, t in pairs)
        each.append(both / either if either else None)
    known = [value for value in each if value is not None]
    return sum(known) / len(known), each, sum(p == t for p, t in pairs) / len(pairs)


def test_the_worked_example():
    """METHODS §5.7: three of five pixels of each class."""
    found = scores(task(), (logits_of(PREDICTED), TRUE))
    assert found["miou"] == pytest.approx(0.6)
    assert found["iou_background"] == found["iou_object"] == pytest.approx(0.6)
    assert found["pixel_accuracy"] == pytest.approx(6 / 8)


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_scores_follow_their_definition_over_several_batches(seed, classes, batches):
    generator = torch.Generator().manual_seed(seed)
    made = task(classes)
    shape = (2, 3, 3)
    predicted = [torch.randint(classes, shape, generator=generator) for _ in range(batches)]
    true = [torch.randint(classes, shape, generator=generator) for _ in range(batches)]
    for mask in true:
        mask[torch.rand(shape, generator=generator) < 0.3] = 255
        mask[0, 0, 0] = 0
    pairs = zip([logits_of(p, classes) for p in predicted], true, strict=True)
    found = scores(made, *pairs)
    miou, each, accuracy = naive_scores(torch.cat(predicted), torch.cat(true), classes)
    assert found["miou"] == pytest.approx(miou, abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    for name, value in zip(made.classes, each, strict=True):
        if value is not None:
            assert found[f"iou_{name}"] == pytest.approx(value, abs=1e-6)


def test_loss_sums_over_the_pixels_that_count():
    mask = torch.tensor([[[0, 255], [1, 1]], [[255, 255], [255, 255]]])
    logits = torch.zeros(2, 2, 2, 2)
    logits[0, 1] = math.log(3)  # a class 1 pixel costs −log ¾, a class 0 pixel −log ¼
    loss, weight = task().loss(logits, {"mask": mask})
    assert weight.tolist() == [3, 0]
    assert_close(loss, torch.tensor([math.log(4) + 2 * math.log(4 / 3), 0.0]))


def test_the_best_constant_guess():
    made = task(["background", "object", "rim"])
    mask = torch.tensor([[[0, 0, 0], [0, 0, 1]], [[1, 255, 255], [255, 255, 255]]])
    tallies = torch.cat([made.tally({"mask": mask[i : i + 1]}) for i in range(2)])
    assert tallies.tolist() == [[5, 1, 0], [0, 1, 0]]
    constant = scores(made, (logits_of(torch.zeros_like(mask), 3), mask))
    assert made.chance(tallies)["miou"] == pytest.approx(constant["miou"])


def test_a_user_reads_the_mask_in_the_pixels_of_the_file():
    (answer,) = task().read(logits_of(PREDICTED), [(4, 12)])
    want = PREDICTED[0].numpy().repeat(2, axis=0).repeat(3, axis=1)
    assert answer["mask"] == want.tolist()
    assert answer["shares"] == {"background": 3 / 8, "object": 5 / 8}


def test_captions_name_the_classes_that_are_there():
    mask = torch.tensor([[[0, 1]], [[0, 255]], [[255, 255]]])
    assert task().captions({"mask": mask}) == ["background object", "background", "ignored"]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_decoder_reads_every_map_and_answers_at_the_size_of_the_images(count):
    shapes = [FeatureShape(4 * (i + 1), 13 // 2**i, 10 // 2**i) for i in range(count)]
    head = task().head(shapes, (13, 10))
    maps = [torch.randn(2, f.channels, f.height, f.width, requires_grad=True) for f in shapes]
    logits = head(maps)
    assert logits.shape == (2, 2, 13, 10)
    logits.square().sum().backward()
    assert all(m.grad.abs().sum() > 0 for m in maps)
    assert head([m[:0] for m in maps]).shape == (0, 2, 13, 10)


def read(cells, classes=CLASSES, known=None):
    places = [f"shelf.csv:{i + 2}" for i in range(len(cells))]
    images = ImageSet("shelf", np.zeros((len(cells), 4, 4)), {"mask": cells}, places=places)
    images.classes = known or {}
    made = task(classes)
    return made, images, made.read_labels(images)


def test_blank_cells_are_no_label_and_classes_may_come_from_the_source():
    made, images, labels = read(
        [np.zeros((4, 4), np.uint8), None], None, {"mask": ["ground", "shape"]}
    )
    assert made.classes == ["ground", "shape"]
    assert labels.present.tolist() == [True, False]
    fitted = made.fit_labels(images, labels, np.full((2, 2), 4), (8, 6))
    assert fitted.value["mask"].shape == (2, 8, 6)
    assert fitted.value["mask"].dtype == np.uint8
    assert fitted.occurs.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(("classes", "said"), [(None, "missing"), (1, "got 1 classes")])
def test_classes_are_needed(classes, said):
    with pytest.raises(DataError, match=rf"tasks\.outline\.classes: {said}; expected 2 to 255"):
        read([np.zeros((4, 4), np.uint8)], classes)


def test_every_mask_that_does_not_fit_is_told_with_its_row():
    odd = np.zeros((4, 4), np.uint8)
    odd[0, :3] = 2, 9, 255
    cells = [np.zeros((3, 4), np.uint8), odd, np.ones((4, 4)), None]
    made, images, labels = read(cells)
    with pytest.raises(DataError) as caught:
        made.fit_labels(images, labels, np.full((4, 2), 4), (4, 4))
    assert [str(fault) for fault in caught.value.faults] == [
        "shelf.csv:2: mask: the mask has 4 × 3 pixels, its image 4 × 4; expected the same.",
        "shelf.csv:3: mask: the mask holds 2, 9; expected 0 to 1 (background to object), or 255 "
        "where it is to be ignored.",
        "shelf.csv:4: the mask is an array of float64 [4, 4]; expected integers [H, W]",
    ]


def test_the_mask_of_an_image_that_was_not_read_is_not_wanted():
    made, images, labels = read([np.zeros((9, 9), np.uint8), np.ones((4, 4), np.uint8)])
    fitted = made.fit_labels(images, labels, np.array([[0, 0], [4, 4]]), (2, 2))
    assert fitted.value["mask"][1].tolist() == [[1, 1], [1, 1]]


def test_a_path_that_leads_nowhere_is_told():
    with pytest.raises(DataError, match=r'shelf.csv:3: mask: no image file "gone.png"'):
        read([None, "gone.png"])


def test_labels_of_whole_images_stay_as_they_are():
    from polytask.tasks.classification import Classification, ClassificationOptions

    made = Classification("kind", ClassificationOptions(kind="classification", classes=2))
    labels = Labels(np.zeros(2, int), np.ones(2, bool))
    images = ImageSet("shelf", np.zeros((2, 4, 4)), {})
    assert made.fit_labels(images, labels, np.full((2, 2), 4), (8, 8)) is labels


def test_other_mask_values_are_named_and_the_rest_is_ignored():
    """Trimaps: 1 pet, 2 background, 3 its border; 7 is nobody's."""
    made = task(values={1: "object", 2: "background", 3: "object"})
    mask = np.array([[1, 2], [3, 7]], np.uint8)
    images = ImageSet("pets", [np.zeros((2, 2, 3), np.uint8)], {"mask": [mask]})
    labels = made.read_labels(images)
    fitted = made.fit_labels(images, labels, np.array([[2, 2]]), (2, 2))
    assert fitted.value["mask"][0].tolist() == [[1, 0], [1, 255]]


def test_a_value_for_an_unknown_class_is_told():
    images = ImageSet("pets", [np.zeros((2, 2, 3), np.uint8)], {"mask": [None]})
    with pytest.raises(DataError, match=r'unknown class "objekt".*"object"'):
        task(values={1: "objekt"}).read_labels(images)

"""Class numbers from cells, scores from logits, and every fault with its row."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.classification import Classification, ClassificationOptions


def images(cells, column="kind", **more):
    places = [f"shelf.csv:{i + 2}" for i in range(len(cells))]
    return ImageSet("shelf", np.zeros((len(cells), 2, 2)), {column: cells}, places=places, **more)


def task(**options):
    return Classification("product", ClassificationOptions(kind="classification", **options))


def test_classes_are_sorted_and_blanks_are_unlabelled():
    made = task(label="kind")
    labels = made.read_labels(images(["pear", None, "apple", "pear"]))
    assert made.classes == ["apple", "pear"]
    assert labels.present.tolist() == [True, False, True, True]
    assert labels.value[labels.present].tolist() == [1, 0, 1]


def test_numbers_are_sorted_as_numbers():
    made = task(label="kind")
    made.read_labels(images(["10", "9", "2"]))
    assert made.classes == ["2", "9", "10"]


def test_given_classes_fix_the_order():
    made = task(label="kind", classes=["pear", "apple", "plum"])
    assert made.read_labels(images(["apple", "pear"])).value.tolist() == [1, 0]
    assert len(made.classes) == 3


def test_values_stand_for_classes_in_the_order_in_which_they_are_named():
    made = task(label="kind", values={"pear": "fruit", "9": "number", "apple": "fruit"})
    assert made.classes == ["fruit", "number"]
    labels = made.read_labels(images(["apple", 9, None, "pear", "fruit"]))
    assert labels.value.tolist() == [0, 1, -1, 0, 0]
    with pytest.raises(DataError, match='unknown class "plum"; expected one of fruit'):
        made.read_labels(images(["plum", "pear"]))


def test_unknown_classes_are_told_row_by_row_with_the_nearest():
    made = task(label="kind", classes=["pear", "apple"])
    with pytest.raises(DataError) as caught:
        made.read_labels(images(["aple", "pear", "peer"]))
    first, second = map(str, caught.value.faults)
    assert first.startswith('shelf.csv:2: kind: unknown class "aple"')
    assert first.endswith('Did you mean "apple"?')
    assert second.startswith("shelf.csv:4")


def test_a_missing_column_names_the_nearest():
    with pytest.raises(DataError, match=r'no column "kid".*Did you mean "kind"'):
        task(label="kid").read_labels(images(["a", "b"]))


def test_no_label_lists_the_columns():
    with pytest.raises(DataError, match=r"tasks\.product\.label: missing.*kind"):
        task().read_labels(images(["a", "b"]))


def test_one_class_is_no_task():
    with pytest.raises(DataError, match="has 1 classes; expected 2 or more"):
        task(label="kind").read_labels(images(["a", "a"]))


def test_loss_is_the_negative_log_probability_of_each_image():
    logits = torch.randn(5, 3, dtype=torch.float64)
    target = torch.tensor([0, 2, 1, 1, 0])
    loss, weight = task(classes=3).loss(logits, target)
    want = [
        math.log(sum(math.exp(v) for v in row)) - row[t]
        for row, t in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    assert_close(loss, torch.tensor(want, dtype=torch.float64))
    assert weight.tolist() == [1] * 5


def test_metrics_and_the_best_constant_guess():
    made = task(classes=3)
    target = torch.tensor([0, 0, 0, 1, 2, 2])
    guess = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1, 2, 0]), 3).float()
    metrics = made.metrics()
    metrics.update(guess, target)
    found = metrics.compute()
    assert_close(found["accuracy"].item(), 4 / 6)
    assert_close(found["mean_class_accuracy"].item(), (2 / 3 + 1 + 1 / 2) / 3)
    assert made.chance(target) == {"accuracy": 0.5}


def test_answers_name_the_class_and_all_probabilities():
    made = task(classes=["pear", "apple"])
    (answer,) = made.read(torch.tensor([[0.0, math.log(3)]]), [(1, 1)])
    assert answer["class"] == "apple"
    assert answer["probability"] == pytest.approx(0.75)
    assert answer["probabilities"] == pytest.approx({"pear": 0.25, "apple": 0.75})


def test_a_class_without_images_counts_for_nothing():
    metrics = task(classes=3).metrics()
    guess = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2]), 3).float()
    metrics.update(guess, torch.tensor([0, 0, 1, 1]))
    assert metrics.compute()["mean_class_accuracy"] == 0.75

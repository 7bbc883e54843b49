"""Numbers: blanks count for nothing, and units do not weigh."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.tasks.task import FeatureShape

NAN = float("nan")


def task(label="age", **options):
    return Regression("age", RegressionOptions(kind="regression", label=label, **options))


def read(made, splits=None, **columns):
    count = len(next(iter(columns.values())))
    images = ImageSet("faces", [np.zeros((1, 1, 3), np.uint8)] * count, columns, splits or {})
    return made.fit_labels(images, made.read_labels(images), np.ones((count, 2)), (1, 1))


def test_cells_are_numbers_or_blank():
    made = task(["age", "height"])
    labels = read(made, age=["10", None, None], height=["1.5", "2.5", None])
    assert labels.present.tolist() == [True, True, False]
    assert_close(made.mean, torch.tensor([10.0, 2.0]))
    assert_close(made.spread, torch.tensor([1.0, 0.5]))  # one number has no spread


def test_units_come_from_training_images():
    made = task()
    read(made, {"train": np.array([0, 1]), "test": np.array([2])}, age=["10", "14", "1000"])
    assert_close(made.mean, torch.tensor([12.0]))
    assert_close(made.spread, torch.tensor([2.0]))


def test_other_text_is_told_with_its_row():
    with pytest.raises(DataError, match=r"faces\[1\].*age.*\"old\""):
        read(task(), age=["10", "old"])


@pytest.mark.parametrize(("loss", "expected"), [("l1", [2.0, 1.5]), ("l2", [4.0, 2.5])])
def test_a_loss_is_in_units_of_the_spread(loss, expected):
    made = task(["a", "b"], loss=loss)
    made.spread = torch.tensor([2.0, 1.0])
    found = torch.tensor([[4.0, 7.0], [2.0, 2.0]])
    true = torch.tensor([[0.0, NAN], [0.0, 0.0]])
    value, weight = made.loss(found.requires_grad_(), {"l": true}["l"])
    assert_close(value, torch.tensor(expected))
    assert_close(weight, torch.ones(2))
    value.sum().backward()
    assert found.grad[0, 1] == 0


def test_labels_in_other_units_train_the_same_network():
    """Years or months: the same head weights give answers twelve times as large, the same loss."""
    losses, answers = [], []
    feature = torch.randn(3, 4, 2, 2)
    for factor in (1, 12):
        made = task()
        ages = [10.0 * factor, 20.0 * factor, 60.0 * factor]
        labels = read(made, age=[str(age) for age in ages])
        torch.manual_seed(0)
        head = made.head([FeatureShape(4, 2, 2)], (8, 8))
        answers.append(head(feature))
        losses.append(made.loss(answers[-1], torch.tensor(labels.value))[0])
    assert_close(losses[0], losses[1])
    assert_close(answers[0] * 12, answers[1])


def test_errors_and_chance_are_in_the_labels_units():
    made = task()
    metrics = made.metrics()
    metrics.update(*made.scored(torch.tensor([[3.0], [8.0]]), torch.tensor([[1.0], [NAN]])))
    assert float(metrics.compute()["abs_error"]) == pytest.approx(2)
    true = torch.tensor([[1.0], [2.0], [9.0], [NAN]])
    assert made.chance(true)["abs_error"] == pytest.approx(8 / 3)

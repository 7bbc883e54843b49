"""Attributes with blanks: a missing one counts for nothing, the others as if it were not there."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.multilabel import BLANK, Multilabel, MultilabelOptions


def task(*columns):
    return Multilabel("damage", MultilabelOptions(kind="multilabel", label=list(columns)))


def read(**columns):
    count = len(next(iter(columns.values())))
    places = [f"shelf.csv:{i + 2}" for i in range(count)]
    images = ImageSet("shelf", np.zeros((count, 2, 2)), columns, places=places)
    return task(*columns).read_labels(images)


def test_cells_say_yes_no_or_nothing():
    labels = read(wet=["1", "0", None, "true"], torn=[0, 1.0, None, None])
    assert labels.value.tolist() == [[1, 0], [0, 1], [BLANK, BLANK], [1, BLANK]]
    assert labels.present.tolist() == [True, True, False, True]


def test_other_cells_are_told_with_row_and_column():
    with pytest.raises(DataError) as caught:
        read(wet=["maybe", "1"], torn=["0", "2"])
    assert [str(f).split(":")[:2] for f in caught.value.faults] == [
        ["shelf.csv", "2"],
        ["shelf.csv", "3"],
    ]
    assert 'wet: got "maybe"; expected 0, 1 or blank' in str(caught.value)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_loss_is_the_mean_over_the_attributes_an_image_has(seed, images, attributes):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, attributes, generator=generator)
    target = torch.randint(-1, 2, (images, attributes), generator=generator)
    loss, weight = task(*"abcd"[:attributes]).loss(logits, target)
    for i in range(images):
        known = target[i] != BLANK
        assert weight[i] == float(known.any())
        if known.any():
            want = F.binary_cross_entropy_with_logits(logits[i][known], target[i][known].float())
            assert_close(loss[i], want)
        else:
            assert loss[i] == 0


def test_accuracy_is_the_mean_over_attributes_without_the_blanks():
    made = task("a", "b")
    target = torch.tensor([[1, BLANK], [0, 1], [1, 0], [1, 0]])
    logits = torch.tensor([[5.0, 5], [5, 5], [5, 5], [-5, -5]])
    metrics = made.metrics()
    metrics.update(*made.scored(logits, target))
    assert_close(metrics.compute()["accuracy"].item(), (2 / 4 + 2 / 3) / 2)
    assert made.chance(target)["accuracy"] == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_attributes_that_the_images_have_no_label_of_count_for_nothing():
    made = task("a", "b")
    target = torch.tensor([[1, BLANK], [0, BLANK], [0, BLANK]])
    metrics = made.metrics()
    metrics.update(*made.scored(torch.tensor([[5.0, 5], [-5, -5], [-5, 5]]), target))
    assert metrics.compute()["accuracy"] == 1
    assert made.chance(target)["accuracy"] == pytest.approx(2 / 3)
    assert made.chance(torch.full((3, 2), BLANK)) == {}


def test_one_attribute_is_enough():
    made = task("a")
    metrics = made.metrics()
    metrics.update(*made.scored(torch.tensor([[5.0], [5.0]]), torch.tensor([[1], [0]])))
    assert metrics.compute()["accuracy"] == 0.5

"""Splits and fractions: proportions, nesting, independence of the seed, and each way to fail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.images import SPLITS, ImageSet
from polytask.data.source import Source
from polytask.data.splits import complete_splits, joint_strata, nested_fraction, read_splits
from polytask.errors import DataError
from polytask.tasks.task import Labels


class InMemory(Source):
    """A source whose images the tests make themselves."""

    source: str = "in_memory"

    def read(self, name, folder):
        raise NotImplementedError


def image_set(size, splits=None, name="pets"):
    return ImageSet(name, np.zeros((size, 2, 2), np.uint8), {}, splits or {})


def labels(strata):
    strata = np.asarray(strata)
    return Labels(value=strata, present=strata >= 0, strata=strata)


def counts(strata, rows, classes):
    return np.bincount(strata[rows][strata[rows] >= 0], minlength=classes)


class_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=8)
shares = st.floats(0.05, 0.4)


def shuffled(sizes, unlabelled=0):
    strata = np.repeat([*range(len(sizes)), -1], [*sizes, unlabelled])
    return np.random.default_rng(len(strata)).permutation(strata)


@given(class_sizes, st.integers(0, 30), shares, shares)
def test_made_splits_partition_the_images_in_proportion(sizes, unlabelled, val, test):
    strata = shuffled([30, *sizes], unlabelled)
    made = complete_splits(image_set(len(strata)), InMemory(val=val, test=test), strata)
    assert list(made) == list(SPLITS)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(made.values()))), range(len(strata)))
    for split, share in (("val", val), ("test", test)):
        assert (np.diff(made[split]) > 0).all()
        found = counts(strata, made[split], len(sizes) + 1)
        wanted = share * np.array([30, *sizes])
        # Where a class is too small to round up twice and still train, it isn't.
        small = np.array([30, *sizes]) * (1 - val - test) < 3
        assert (np.abs(found - wanted)[~small] <= 1 + 1e-9).all()
        assert (found <= wanted + 1 + 1e-9).all()
    assert (counts(strata, made["train"], len(sizes) + 1) >= 1).all()


@given(st.integers(4, 12), st.integers(15, 40), shares, shares)
def test_made_splits_have_their_size_however_small_the_classes(classes, size, val, test):
    strata = shuffled([size] * classes)
    made = complete_splits(image_set(len(strata)), InMemory(val=val, test=test), strata)
    assert abs(len(made["val"]) - val * len(strata)) <= 0.5
    assert abs(len(made["test"]) - test * len(strata)) <= 0.5


def test_many_classes_of_three_still_fill_every_split():
    strata = shuffled([3] * 100)  # 15 % of three images rounds to none: 15 % of 300 does not
    made = complete_splits(image_set(300), InMemory(), strata)
    assert [len(made[split]) for split in SPLITS] == [210, 45, 45]


def test_made_splits_depend_on_position_alone():
    strata = shuffled([40, 60])
    first = complete_splits(image_set(100, name="a"), InMemory(), strata)
    again = complete_splits(image_set(100, name="b"), InMemory(fraction=0.5), strata)
    for split in SPLITS:
        np.testing.assert_array_equal(first[split], again[split])
    # Which images are drawn is a fair draw, not the head or the tail of the data set.
    assert 35 < first["test"].mean() < 65


def test_given_splits_stay_and_a_missing_one_comes_out_of_train():
    strata = np.tile([0, 1], 50)
    given_splits = {"train": np.arange(20, 100), "test": np.arange(20)}
    whole = complete_splits(image_set(100, given_splits), InMemory(val=0.25), strata)
    np.testing.assert_array_equal(whole["test"], np.arange(20))
    np.testing.assert_array_equal(np.sort(np.r_[whole["train"], whole["val"]]), np.arange(20, 100))
    assert counts(strata, whole["val"], 2).tolist() == [10, 10]
    given_splits["val"] = np.arange(20, 30)
    given_splits["train"] = np.arange(30, 100)
    whole = complete_splits(image_set(100, given_splits), InMemory(), strata)
    for split, rows in given_splits.items():
        np.testing.assert_array_equal(whole[split], rows)


def test_without_validation_images_when_none_are_wanted():
    whole = complete_splits(image_set(20), InMemory(val=0), np.tile([0, 1], 10))
    assert {split: len(rows) for split, rows in whole.items()} == {"train": 17, "val": 0, "test": 3}


@pytest.mark.parametrize(
    ("size", "given_splits", "options", "split"),
    [
        (3, {}, {}, "test"),
        (20, {}, {"test": 0}, "test"),
        (20, {"train": np.arange(20), "test": np.arange(0)}, {}, "test"),
        (20, {"train": np.arange(0), "test": np.arange(20)}, {}, "train"),
    ],
)
def test_an_empty_split_is_named_with_its_data_set_and_counts(size, given_splits, options, split):
    with pytest.raises(DataError) as caught:
        complete_splits(image_set(size, given_splits), InMemory(**options), np.zeros(size, int))
    fault = next(f for f in caught.value.faults if f"split {split} is empty" in f.problem)
    assert fault.where == "data.pets"
    assert f"of {size} images" in fault.problem
    assert "data.pets.val" in fault.hint


def test_splits_without_train_are_refused():
    with pytest.raises(DataError, match="only the splits test"):
        complete_splits(image_set(4, {"test": np.arange(4)}), InMemory(), np.zeros(4, int))


@given(class_sizes, st.integers(0, 40), st.floats(0.001, 1), st.integers(0, 2**31))
def test_a_fraction_keeps_each_class_in_proportion(sizes, unlabelled, fraction, seed):
    strata = shuffled(sizes, unlabelled)
    kept = nested_fraction(strata, fraction, seed)
    assert (np.diff(kept) > 0).all()
    wanted = [max(1, round(fraction * n)) for n in sizes]
    assert counts(strata, kept, len(sizes)).tolist() == wanted
    assert (strata[kept] < 0).sum() == round(fraction * unlabelled)


@given(
    class_sizes,
    st.integers(0, 40),
    st.lists(st.floats(0.001, 1), min_size=2, max_size=4),
    st.integers(0, 2**31),
)
def test_fractions_are_nested(sizes, unlabelled, fractions, seed):
    strata = shuffled(sizes, unlabelled)
    smaller, *larger = (set(nested_fraction(strata, f, seed)) for f in sorted(fractions))
    for bigger in larger:
        assert smaller <= bigger
        smaller = bigger


def test_the_whole_is_every_image_and_seeds_differ():
    strata = shuffled([50, 50])
    np.testing.assert_array_equal(nested_fraction(strata, 1.0, 3), np.arange(100))
    first, again, other = (set(nested_fraction(strata, 0.2, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_every_image_is_drawn_equally_often():
    strata = np.zeros(50, int)
    drawn = sum(
        np.bincount(nested_fraction(strata, 0.2, seed), minlength=50) for seed in range(500)
    )
    # 500 draws at 0.2: mean 100, standard deviation 8.9.
    assert 100 - 5 * 8.9 < drawn.min() <= drawn.max() < 100 + 5 * 8.9


def test_an_image_belongs_to_the_first_task_that_labels_it():
    digit, font = labels([0, 1, -1, -1]), labels([2, -1, 0, -1])
    no_classes = labels([-1] * 4)
    no_classes.strata = None
    assert joint_strata(4, [digit, no_classes, font]).tolist() == [0, 1, 2, -1]
    assert joint_strata(4, [no_classes]).tolist() == [-1] * 4


def split(strata, splits=None, classes=("cat", "dog", "owl"), **options):
    tasks = {"breed": labels(strata)}
    images = image_set(len(strata), splits)
    return read_splits(images, InMemory(**options), tasks, {"breed": classes}, seed=0)


def fault(*args, **options):
    with pytest.raises(DataError) as caught:
        split(*args, **options)
    (only,) = caught.value.faults
    assert only.where == "data.pets"
    return only


def test_only_training_images_are_thinned():
    strata = np.tile([0, 1, 2], 40)
    whole, thin = split(strata), split(strata, fraction=0.1)
    assert len(whole["train"]) == 84
    assert counts(strata, thin["train"], 3).tolist() == [3, 3, 3]  # round(2.8)
    assert set(thin["train"]) < set(whole["train"])
    np.testing.assert_array_equal(thin["test"], whole["test"])
    np.testing.assert_array_equal(thin["val"], whole["val"])


@pytest.mark.parametrize("where", ["test", "val"])
def test_a_class_that_is_never_trained_on_is_refused(where):
    strata = np.r_[np.tile([0, 1], 20), [2] * 3]
    parts = {"train": np.arange(20), "val": np.arange(20, 30), "test": np.arange(30, 40)}
    parts[where] = np.r_[parts[where], 40:43]
    found = fault(strata, parts)
    assert '"owl"' in found.problem
    assert f"train 0, {'val 3' if where == 'val' else 'val 0'}" in found.problem
    assert "of task breed" in found.problem
    assert "Move" in found.hint


def test_a_fraction_that_loses_a_class_of_the_second_task_is_refused():
    strata = {"breed": np.tile([0, 1], 50), "damage": np.full(100, -1)}
    strata["damage"][:90:45] = [0, 1]
    parts = {"train": np.arange(90), "val": np.arange(90, 95), "test": np.arange(95, 100)}
    tasks = {task: labels(rows) for task, rows in strata.items()}
    classes = {"breed": ["cat", "dog"], "damage": ["dent", "tear"]}
    with pytest.raises(DataError) as caught:
        read_splits(image_set(100, parts), InMemory(fraction=0.03), tasks, classes, seed=0)
    hints = [f.hint for f in caught.value.faults]
    assert hints == ["The fraction leaves out all 2: raise data.pets.fraction."]
    assert "of task damage" in caught.value.faults[0].problem


def test_a_task_without_any_training_label_is_refused():
    strata = np.r_[np.full(40, -1), [0, 1] * 5]
    parts = {"train": np.arange(40), "val": np.arange(40, 45), "test": np.arange(45, 50)}
    assert "labelled: train 0, val 5, test 5" in fault(strata, parts).problem

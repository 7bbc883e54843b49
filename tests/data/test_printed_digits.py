"""Rendered digits: deterministic, balanced, legible, and tested on faces not trained on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from polytask.data.sources.printed_digits import PrintedDigits


def printed(**options):
    return PrintedDigits(source="printed_digits", **options).read("printed", Path())


@pytest.fixture(scope="module")
def default():
    return printed()


def nearest_neighbour_accuracy(images, column, known, asked):
    pixels = images.images.reshape(len(images), -1).astype(float)
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= pixels.std(1, keepdims=True)
    cells = np.array(images.columns[column])
    closest = (pixels[asked] @ pixels[known].T).argmax(1)
    return (cells[known][closest] == cells[asked]).mean()


def test_the_default_is_2000_images_of_28_pixels(default):
    assert default.images.shape == (2000, 28, 28)
    assert default.images.dtype == np.uint8
    assert default.default_label == "digit"


def test_every_210_images_hold_each_digit_in_each_face_once(default):
    pairs = list(zip(default.columns["digit"], default.columns["font"], strict=True))
    assert len(set(pairs)) == 210
    assert set(Counter(pairs[210:420]).values()) == {1}


def test_the_same_seed_gives_the_same_images_and_a_larger_count_adds_to_them(default):
    np.testing.assert_array_equal(printed(count=60).images, default.images[:60])
    other = printed(count=60, seed=1)
    assert other.columns["font"] == default.columns["font"][:60]
    assert (other.images != default.images[:60]).any(axis=(1, 2)).all()


def test_no_image_is_blank_cut_off_or_repeated(default):
    assert len(np.unique(default.images.reshape(2000, -1), axis=0)) == 2000
    bright = np.percentile(default.images, 95, axis=(1, 2))
    ground = np.median(default.images, axis=(1, 2))
    assert (bright - ground > 30).mean() > 0.99
    # Ink reaches the border of few images: noise aside, the border is as dark as the ground.
    border = np.concatenate(
        [
            default.images[:, [0, -1]].reshape(2000, -1),
            default.images[:, :, [0, -1]].reshape(2000, -1),
        ],
        axis=1,
    )
    assert (border.mean(1) - ground > 25).mean() < 0.02


def test_digits_can_be_told_from_pixels_across_faces(default):
    train, test = default.splits["train"], default.splits["test"]
    assert nearest_neighbour_accuracy(default, "digit", train, test) > 0.75  # chance is 0.1


def test_faces_differ(default):
    known, asked = np.arange(0, 2000, 2), np.arange(1, 2000, 2)
    chance = 1 / 21
    deviation = np.sqrt(chance * (1 - chance) / len(asked))
    assert nearest_neighbour_accuracy(default, "font", known, asked) > chance + 5 * deviation


def test_the_splits_share_no_face(default):
    faces = {
        split: {default.columns["font"][i] for i in rows} for split, rows in default.splits.items()
    }
    assert sorted(map(len, faces.values())) == [3, 3, 15]
    assert len(set.union(*faces.values())) == 21
    assert sorted(np.concatenate(list(default.splits.values()))) == list(range(2000))


def test_fonts_as_a_label_need_random_splits():
    assert printed(count=60, unseen_fonts=False).splits == {}


def test_the_smallest_count_still_trains_on_every_digit():
    few = printed(count=50)
    assert {few.columns["digit"][i] for i in few.splits["train"]} == set("0123456789")
    assert all(len(rows) for rows in few.splits.values())


@pytest.mark.parametrize("size", [12, 32, 61])
def test_it_renders_at_the_size_asked_for(size):
    assert printed(count=50, size=size).images.shape == (50, size, size)

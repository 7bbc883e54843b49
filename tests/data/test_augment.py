import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.config.augment import Augment
from polytask.data.augment import IGNORED, draw_change


def drawn(augment, count, key=3, passes=0):
    return draw_change(augment, key, np.arange(count), np.full(count, passes))


def one_by_one(images, change):
    """Pad, crop and mirror each image by itself, pixel by pixel."""
    changed = np.zeros_like(images)
    count, _, height, width = images.shape
    for b in range(count):
        for y in range(height):
            for x in range(width):
                across = width - 1 - x if change.flip[b] else x
                row = y + change.top[b] - change.pad
                column = across + change.left[b] - change.pad
                if 0 <= row < height and 0 <= column < width:
                    changed[b, :, y, x] = images[b, :, row, column]
    return changed


@given(st.booleans(), st.integers(0, 3), st.integers(1, 4), st.sampled_from([1, 3]))
def test_a_batch_changes_like_its_images_one_by_one(flip, crop, count, channels):
    images = np.random.default_rng(0).integers(1, 256, (count, channels, 4, 5), np.uint8)
    before = images.copy()
    change = drawn(Augment(flip=flip, crop=crop), count)
    assert np.array_equal(change.images(images), one_by_one(images, change))
    assert np.array_equal(images, before)


def test_an_image_changes_the_same_in_any_batch():
    augment = Augment(flip=True, crop=2)
    index, passes = np.array([4, 9, 4, 7]), np.array([0, 0, 1, 2])
    together = draw_change(augment, 11, index, passes)
    order = np.array([2, 0, 3])
    apart = draw_change(augment, 11, index[order], passes[order])
    for name in ("top", "left", "flip"):
        assert getattr(together, name)[order].tolist() == getattr(apart, name).tolist()


@pytest.mark.parametrize("other", [{"key": 4}, {"passes": 1}])
def test_another_key_or_pass_changes_an_image_otherwise(other):
    augment = Augment(flip=True, crop=2)
    mine, theirs = drawn(augment, 100), drawn(augment, 100, **other)
    assert (mine.top != theirs.top).any()
    assert (mine.flip != theirs.flip).any()


def test_all_corners_and_mirrorings_are_equally_likely():
    change = drawn(Augment(flip=True, crop=1), 18_000)
    cells = change.flip * 9 + change.top * 3 + change.left
    counts = np.bincount(cells, minlength=18)
    assert len(counts) == 18
    assert ((counts - 1000) ** 2 / 1000).sum() < 40.8  # χ² with 17 degrees of freedom, p = 0.001


def test_without_augmentation_nothing_changes():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), np.uint8)
    assert np.array_equal(drawn(Augment(), 20).images(images), images)


@given(st.booleans(), st.integers(0, 2), st.integers(0, 5), st.integers(0, 4))
def test_masks_and_boxes_follow_their_images(flip, crop, x, y):
    """A filled rectangle, its mask and its box still agree after the change."""
    height, width, count = 7, 8, 6
    images = np.zeros((count, 1, height, width), np.uint8)
    images[:, :, y : y + 3, x : x + 3] = 200
    mask = torch.from_numpy((images[:, 0] > 0).astype(np.uint8))
    boxes = torch.tensor([x, y, min(x + 3, width), min(y + 3, height)]).float().repeat(count, 2, 1)
    change = drawn(Augment(flip=flip, crop=crop), count)
    shown = change.images(images)[:, 0]
    value = change.target({"mask": mask, "boxes": boxes, "other": mask}, height, width)

    assert value["other"] is mask
    inside = value["mask"].numpy() != IGNORED
    assert np.array_equal(inside, one_by_one(np.ones_like(images), change)[:, 0] == 1)
    assert np.array_equal(shown[inside] > 0, value["mask"].numpy()[inside] == 1)
    assert not shown[~inside].any()
    for picture, both in zip(shown, value["boxes"].tolist(), strict=True):
        assert both[0] == both[1]
        x0, y0, x1, y1 = both[0]
        rows, columns = np.nonzero(picture)
        if len(rows):
            assert [x0, y0] == [columns.min(), rows.min()]
            assert [x1, y1] == [columns.max() + 1, rows.max() + 1]
        else:
            assert (x1 - x0) * (y1 - y0) == 0


def test_labels_that_lie_on_no_image_stay():
    classes = torch.tensor([1, 2])
    assert drawn(Augment(flip=True), 2).target(classes, 4, 4) is classes

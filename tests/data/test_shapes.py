"""Generated scenes: labels that agree with the pixels and with one another."""

from pathlib import Path

import numpy as np
import pytest

from polytask.data.sources.shapes import ATTRIBUTES, CORNERS, SHAPES, Shapes


def shapes(**options):
    return Shapes(source="shapes", **options).read("scenes", Path())


@pytest.fixture(scope="module")
def scenes():
    return shapes(count=600)


def boxes(scenes):
    return np.array([scenes.columns[corner] for corner in CORNERS]).T


def test_columns_and_form(scenes):
    assert scenes.images.shape == (600, 64, 64, 3)
    assert scenes.images.dtype == np.uint8
    assert list(scenes.columns) == ["shape", *ATTRIBUTES, "mask", *CORNERS]
    assert scenes.default_label == "shape"
    assert scenes.classes == {"shape": SHAPES, "mask": ["background", *SHAPES]}
    assert [scenes.columns["shape"].count(shape) for shape in SHAPES] == [120] * 5


def test_the_box_is_the_extent_of_the_main_object_in_the_mask(scenes):
    for i, (x0, y0, x1, y1) in enumerate(boxes(scenes)):
        value = SHAPES.index(scenes.columns["shape"][i]) + 1
        rows, columns = np.nonzero(scenes.columns["mask"][i] == value)
        assert (x0, y0, x1, y1) == (
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        )  # fmt: skip


def test_the_mask_follows_the_pixels(scenes):
    """Ground is one flat colour: what differs from it strongly is an object, and hardly else."""
    hits = misses = alarms = 0
    for image, mask in zip(scenes.images, scenes.columns["mask"], strict=True):
        ground = np.median(image[mask == 0], axis=0)
        stands_out = np.abs(image.astype(float) - ground).max(-1) > 80
        hits += (stands_out & (mask > 0)).sum()
        misses += (~stands_out & (mask > 0)).sum()
        alarms += (stands_out & (mask == 0)).sum()
    assert hits > 10 * alarms
    assert hits > 2 * misses  # stripes lie halfway to the ground


def test_attributes_are_even_and_independent(scenes):
    cells = np.array([scenes.columns[attribute] for attribute in ATTRIBUTES])
    deviation = 5 * 0.5 / np.sqrt(600)
    assert (np.abs(cells.mean(1) - 0.5) < deviation).all()
    off_diagonal = np.corrcoef(cells)[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(600)


def test_attributes_say_what_the_picture_shows(scenes):
    cells = {attribute: np.array(scenes.columns[attribute], bool) for attribute in ATTRIBUTES}
    masks = np.stack(scenes.columns["mask"])
    ground = np.array([np.median(i[m == 0]) for i, m in zip(scenes.images, masks, strict=True)])
    assert ground[cells["dark"]].max() < 127 < ground[~cells["dark"]].min()

    x0, y0, x1, y1 = boxes(scenes).T
    side = np.maximum(x1 - x0, y1 - y0)
    value = np.array([SHAPES.index(shape) + 1 for shape in scenes.columns["shape"]])
    share = (masks == value[:, None, None]).sum((1, 2)) / ((x1 - x0) * (y1 - y0))
    for k in range(1, 6):  # an outline leaves more of its box empty than the same shape filled
        of_shape = value == k
        assert share[of_shape & cells["filled"]].min() > share[of_shape & ~cells["filled"]].mean()
        assert side[of_shape & cells["large"]].min() > side[of_shape & ~cells["large"]].max()


def test_lesser_objects_are_of_other_shapes_and_smaller(scenes):
    counts = np.array([np.bincount(m.ravel(), minlength=6)[1:] for m in scenes.columns["mask"]])
    kinds = (counts > 0).sum(1)
    assert set(kinds) == {1, 2, 3}


def test_the_same_seed_gives_the_same_scenes_and_a_larger_count_adds_to_them(scenes):
    first, other = shapes(count=20), shapes(count=20, seed=1)
    np.testing.assert_array_equal(first.images, scenes.images[:20])
    np.testing.assert_array_equal(first.columns["mask"], scenes.columns["mask"][:20])
    assert (first.images != other.images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("size", [24, 100])
def test_every_scene_has_its_object_at_any_size(size):
    scenes = shapes(count=100, size=size)
    x0, y0, x1, y1 = boxes(scenes).T
    assert (np.minimum(x1 - x0, y1 - y0) >= 0.2 * size).all()
    assert (np.maximum(x1, y1) <= size).all()

"""Crops, turns and tilts: torchvision as the reference, drawn shapes, and what is lost."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from polytask.config.augment import PRESETS, Augment
from polytask.data.augment import IGNORED, draw_change, lost
from polytask.data.warp import NUMBERS, Warp, draw_warp

HEIGHT, WIDTH = 48, 64
ALL = Augment(
    flip=True, crop=4, scale=(0.3, 1.0), ratio=(0.75, 4 / 3), rotate=30, perspective=0.4, jitter=0.3
)


def smooth_image():
    """A picture without sharp edges, on which interpolations agree."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 9 + k) + np.cos(y / 7 - k) for k in range(3)]
    return (127 + 60 * np.stack(waves)).astype(np.uint8)


def warp_of(**options):
    """One warp with the numbers of the middle: a full turn of the upper bound needs 1."""
    return draw_warp(Augment(**options), np.ones((1, NUMBERS)) * 0.5, HEIGHT, WIDTH)


def inner(image, border=10):
    return image[..., border:-border, border:-border].astype(float)


@pytest.mark.parametrize("degrees", [10.0, -25.0, 90.0])
def test_turns_are_torchvisions(degrees):
    image = smooth_image()
    ours = warp_of(rotate=(degrees, degrees)).maps(image[None])[0]
    theirs = F.rotate(torch.from_numpy(image), degrees, v2.InterpolationMode.BILINEAR).numpy()
    inside = F.rotate(torch.full((1, HEIGHT, WIDTH), 255, dtype=torch.uint8), degrees).numpy() > 0
    inside = np.broadcast_to(inside, image.shape).copy()
    inside[:, [0, 1, -2, -1]] = inside[:, :, [0, 1, -2, -1]] = False
    apart = np.abs(ours.astype(float) - theirs)[inside]
    assert np.mean(apart) < 1
    assert np.quantile(apart, 0.98) <= 2


def test_crops_are_torchvisions():
    image = smooth_image()
    drawn = np.full((1, NUMBERS), 0.5)
    ours = draw_warp(Augment(scale=(0.25, 0.25)), drawn, HEIGHT, WIDTH).maps(image[None])[0]
    theirs = F.resized_crop(
        torch.from_numpy(image), HEIGHT // 4, WIDTH // 4, HEIGHT // 2, WIDTH // 2, [HEIGHT, WIDTH]
    ).numpy()
    assert np.abs(inner(ours, 2) - inner(theirs, 2)).max() <= 1


def test_tilts_are_torchvisions():
    image = smooth_image()
    warp = warp_of(perspective=0.5)
    x, y = 0.25 * WIDTH / 2, 0.25 * HEIGHT / 2  # half of the distortion, of half a side
    ends = [[x, y], [WIDTH - x, y], [WIDTH - x, HEIGHT - y], [x, HEIGHT - y]]
    starts = [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]]
    theirs = F.perspective(
        torch.from_numpy(image), starts, ends, v2.InterpolationMode.BILINEAR
    ).numpy()
    ours = warp.maps(image[None])[0]
    assert np.abs(inner(ours) - inner(theirs)).mean() < 1.5
    moved = warp.boxes(torch.tensor([[0.0, 0.0, WIDTH, HEIGHT]]), HEIGHT, WIDTH)
    assert moved[0].tolist() == pytest.approx([x, y, WIDTH - x, HEIGHT - y], abs=1e-4)


def test_the_whole_image_untouched_stays_to_the_bit():
    image = smooth_image()
    warp = draw_warp(
        Augment(scale=(1.0, 1.0)), np.random.default_rng(0).random((4, NUMBERS)), 48, 64
    )
    assert np.array_equal(warp.maps(np.stack([image] * 4)), np.stack([image] * 4))
    assert (
        warp.boxes(torch.tensor([[1.0, 2, 30, 40]] * 4), 48, 64).tolist()
        == [pytest.approx([1, 2, 30, 40], abs=1e-4)] * 4
    )


@given(
    st.integers(0, 2**40),
    st.tuples(st.integers(0, 40), st.integers(0, 28)),
    st.tuples(st.integers(8, 24), st.integers(8, 20)),
)
def test_image_mask_and_box_of_a_drawn_shape_go_together(key, corner, sides):
    (x0, y0), (w, h) = corner, sides
    x1, y1 = min(WIDTH, x0 + w), min(HEIGHT, y0 + h)
    mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    mask[:, y0:y1, x0:x1] = 1
    change = draw_change(ALL, key, np.array([3]), np.array([0]), (HEIGHT, WIDTH))
    target = {"mask": torch.from_numpy(mask), "boxes": torch.tensor([[x0, y0, x1, y1]]).float()}
    moved = change.target(target, HEIGHT, WIDTH)
    # Without colours, so that the shape in the image can be told from its surroundings.
    plain = ALL.model_copy(update={"jitter": 0.0})
    plain = draw_change(plain, key, np.array([3]), np.array([0]), (HEIGHT, WIDTH))
    image = plain.images((mask * 255)[:, None])[0, 0]
    shape = moved["mask"][0].numpy() == 1
    apart = (image > 127) != shape
    assert apart.mean() < 0.03  # the shape's outline, rounded differently
    left, top, right, bottom = moved["boxes"][0].tolist()
    if shape.any():
        rows, columns = np.nonzero(shape)
        # A turned shape fills its frame only in part; it never leaves it.
        assert left - 1 <= columns.min()
        assert columns.max() <= right + 1
        assert top - 1 <= rows.min()
        assert rows.max() <= bottom + 1


def test_without_turning_the_box_is_the_shapes_own():
    drawn = np.random.default_rng(1)
    augment = Augment(flip=True, crop=3, scale=(0.4, 1.0), ratio=(0.75, 4 / 3))
    for index in range(50):
        x0, y0 = drawn.integers(5, 30, 2)
        mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
        mask[:, y0 : y0 + 14, x0 : x0 + 18] = 1
        box = torch.tensor([[x0, y0, x0 + 18, y0 + 14]]).float()
        change = draw_change(augment, 5, np.array([index]), np.array([0]), (HEIGHT, WIDTH))
        moved = change.target({"mask": torch.from_numpy(mask), "boxes": box}, HEIGHT, WIDTH)
        shape = moved["mask"][0].numpy() == 1
        if shape.any():
            rows, columns = np.nonzero(shape)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(seen) - moved["boxes"][0].numpy()).max() <= 1


def test_labels_from_beyond_the_image_are_unknown():
    warp = warp_of(rotate=(45.0, 45.0))
    change = draw_change(Augment(rotate=(45.0, 45.0)), 0, np.array([0]), np.array([0]), (48, 64))
    assert np.allclose(change.warp.matrices, warp.matrices)
    found = change.target(
        {
            "mask": torch.ones(1, HEIGHT, WIDTH, dtype=torch.uint8),
            "depth": torch.ones(1, HEIGHT, WIDTH),
            "normals": torch.ones(1, 3, HEIGHT, WIDTH),
        },
        HEIGHT,
        WIDTH,
    )
    corner, middle = (0, 0, 0), (0, HEIGHT // 2, WIDTH // 2)
    assert found["mask"][corner] == IGNORED
    assert found["mask"][middle] == 1
    assert found["depth"][corner] == 0
    assert found["depth"][middle] == 1
    assert found["normals"][0, :, 0, 0].tolist() == [0, 0, 0]


def test_normals_turn_with_their_image():
    """To the right, turned by 90° against the clock, is up; mirrored, left is right."""
    right = torch.zeros(1, 3, 8, 8)
    right[:, 0] = 1
    warp = draw_warp(Augment(rotate=(90.0, 90.0)), np.full((1, NUMBERS), 0.5), 8, 8)
    turned = warp.normals(right.clone())
    assert turned[0, :, 4, 4].tolist() == pytest.approx([0, 1, 0], abs=1e-6)


@given(st.integers(0, 2**40))
def test_a_change_depends_on_its_own_image_alone(key):
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 12, 16), np.uint8)
    index, passes = np.arange(6), np.array([0, 0, 1, 0, 2, 0])
    together = draw_change(ALL, key, index, passes, (12, 16)).images(images)
    for i in range(6):
        alone = draw_change(ALL, key, index[[i]], passes[[i]], (12, 16)).images(images[[i]])
        assert np.array_equal(alone[0], together[i])


def test_shares_ratios_and_chances_are_drawn_as_asked():
    numbers = np.random.default_rng(0).random((4000, NUMBERS))
    augment = Augment(scale=(0.2, 0.6), ratio=(0.75, 4 / 3), rotate=(0, 30), chance=0.4)
    warp = draw_warp(augment, numbers, HEIGHT, HEIGHT)
    turned = warp.turns != 0
    assert abs(turned.mean() - 0.4) < 0.03
    assert 0 <= warp.turns.min() <= warp.turns.max() <= np.deg2rad(30)
    sides = np.stack([warp.matrices[~turned][:, k, k] for k in (0, 1)])
    area, ratio = sides.prod(0), sides[0] / sides[1]
    assert 0.2 <= area.min() <= area.max() <= 0.6 + 1e-9
    assert abs(area.mean() - 0.4) < 0.01
    assert 0.75 - 1e-9 <= ratio.min() <= ratio.max() <= 4 / 3 + 1e-9
    # The crop lies inside the image.
    centre = warp.matrices[~turned][:, :2, 2].T
    assert (np.abs(centre) + sides).max() <= 1 + 1e-9


def test_colours_change_as_torchvision_changes_them():
    image = smooth_image()[None]
    change = draw_change(Augment(jitter=0.5), 3, np.array([1]), np.array([0]))
    brightness, contrast, saturation = change.colours[0]
    theirs = F.adjust_brightness(torch.from_numpy(image), brightness)
    theirs = F.adjust_saturation(F.adjust_contrast(theirs, contrast), saturation).numpy()
    assert np.abs(change.images(image).astype(int) - theirs).max() <= 4  # rounded in between
    grey = image[:, :1]
    assert change.images(grey).shape == grey.shape


def test_what_a_change_leaves_nothing_of_is_counted():
    boxes = np.zeros((3, 2, 4))
    boxes[0] = [[0, 0, 4, 4], [20, 20, 40, 40]]
    boxes[1, 0] = [0, 0, 64, 48]
    masks = np.full((3, HEIGHT, WIDTH), IGNORED, np.uint8)
    masks[0, :4, :4] = 1
    masks[1] = 1
    half = np.array([[[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]] * 3)  # the right lower quarter
    change = draw_change(Augment(), 0, np.arange(3), np.zeros(3, int))
    change = type(change)(0, change.top, change.left, change.flip, Warp(half, np.zeros(3)))
    rows = np.arange(3)
    assert lost({"boxes": boxes, "mask": masks}, rows, change, (HEIGHT, WIDTH)) == (3, 1, 2, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_options(name):
    assert Augment.model_validate(name) == Augment(**PRESETS[name])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("cifer", 'Did you mean "cifar"'),
        ({"scale": [1.0, 0.5]}, "smaller number first"),
        ({"scale": [0, 1]}, "greater than 0"),
        ({"rotate": 500}, "less than or equal to 180"),
        ({"perspective": 1.0}, "less than 1"),
        ({"zoom": 2}, "zoom"),
    ],
)
def test_wrong_options_are_told(value, said):
    with pytest.raises(ValidationError, match=said):
        Augment.model_validate(value)

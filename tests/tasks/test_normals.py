"""Normals: cosine, angles, and what an 8-bit file says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.testing import assert_close

from polytask.data.augment import Change
from polytask.tasks.normals import Normals, NormalsOptions, unit_vectors

UP = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)


def task(**options):
    return Normals("facing", NormalsOptions(kind="normals", **options))


def tilted(*degrees):
    """Normals that many degrees away from `UP`, a pixel each: [1, 3, 1, N]."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()])[None, :, None]


def scores(made, found, true):
    metrics = made.metrics()
    metrics.update(*made.scored(found, {"normals": true}))
    return {name: float(value) for name, value in metrics.compute().items()}


def test_the_loss_is_one_minus_the_cosine_of_known_pixels():
    true = UP.expand(1, 3, 1, 3).clone()
    true[..., 2] = 0
    loss, weight = task().loss(tilted(60.0, 90.0, 10.0), {"normals": true})
    assert_close(loss, torch.tensor([0.5 + 1.0]))
    assert_close(weight, torch.tensor([2.0]))


def test_angles_of_a_worked_example():
    """5°, 12°, 25°, 40° and an unknown pixel."""
    true = UP.expand(1, 3, 1, 5).clone()
    true[..., 4] = 0
    found = scores(task(), tilted(5.0, 12.0, 25.0, 40.0, 90.0), true)
    assert found["mean_angle"] == pytest.approx(20.5, abs=1e-3)
    assert found["median_angle"] == pytest.approx(12, abs=0.02)
    assert found["within_11_25"] == pytest.approx(0.25)
    assert found["within_22_5"] == pytest.approx(0.5)
    assert found["within_30"] == pytest.approx(0.75)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_median_from_counts_is_that_of_the_list(seed):
    generator = torch.Generator().manual_seed(seed)
    found, true = (normalize(torch.randn(2, 3, 4, 5, generator=generator), dim=1) for _ in "ab")
    made = task()
    angles, _ = made.scored(found, {"normals": true})
    assert scores(made, found, true)["median_angle"] == pytest.approx(
        float(angles.median()), abs=0.011
    )


def test_shares_stay_apart_after_a_batch_in_which_they_are_equal():
    made = task()
    metrics = made.metrics()
    for degrees in (5.0, 25.0):
        metrics.update(*made.scored(tilted(degrees), {"normals": UP}))
    found = metrics.compute()
    assert float(found["within_11_25"]) == pytest.approx(0.5)
    assert float(found["within_30"]) == pytest.approx(1)


def test_files_and_arrays_give_unit_vectors():
    """0…255 is −1…1; grey is no direction; an array needs no unit length."""
    written = np.array([[[255, 128, 128], [0, 128, 128], [128, 128, 128], [0, 0, 0]]], np.uint8)
    found = unit_vectors(written)
    assert_close(found[0, 0], np.array([1, 0.0039, 0.0039], np.float32), atol=1e-3, rtol=0)
    assert found[0, 1, 0] < -0.99
    assert not found[0, 2:].any()
    assert_close(
        unit_vectors(np.array([[[0.0, 3.0, 4.0]]])), np.array([[[0, 0.6, 0.8]]]).astype("f")
    )


def test_a_mirrored_image_mirrors_the_map_and_turns_x():
    """A wall that faces right faces left in the mirror; what a crop brings in is unknown."""
    normals = torch.zeros(2, 3, 1, 3)
    normals[:, :, 0, 0] = torch.tensor([0.6, 0.0, 0.8])
    change = Change(0, np.zeros(2, int), np.zeros(2, int), np.array([True, False]))
    turned = change.target({"normals": normals}, 1, 3)["normals"]
    assert_close(turned[0, :, 0, 2], torch.tensor([-0.6, 0.0, 0.8]))
    assert not turned[0, :, 0, :2].any()
    assert_close(turned[1], normals[1])
    shifted = Change(1, np.array([1, 1]), np.array([2, 2]), np.array([False, False]))
    assert not shifted.target({"normals": normals}, 1, 3)["normals"][..., 2].any()
    assert_close(normals[0, :, 0, 0], torch.tensor([0.6, 0.0, 0.8]))  # the data set's own stay


def test_depths_follow_the_same_change_as_normals():
    depth = torch.arange(1.0, 7).view(1, 2, 3)
    change = Change(1, np.array([0]), np.array([1]), np.array([True]))
    moved = change.target({"depth": depth, "normals": depth[:, None].repeat(1, 3, 1, 1)}, 2, 3)
    assert_close(moved["depth"], torch.tensor([[[0.0, 0, 0], [3, 2, 1]]]))
    assert_close(moved["normals"][:, 2], moved["depth"])


def test_chance_is_the_mean_direction():
    made = task()
    true = torch.cat([tilted(30.0), tilted(-30.0)])
    assert made.chance(made.tally({"normals": true}))["mean_angle"] == pytest.approx(30, abs=1e-3)

"""Depths: unknown pixels count for nothing, and errors follow their definition."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from polytask.data.images import ImageSet
from polytask.errors import DataError
from polytask.tasks.depth import Depth, DepthOptions
from polytask.tasks.task import FeatureShape

TRUE = torch.tensor([[[2.0, 4.0], [0.0, 5.0]]])
FOUND = torch.tensor([[[1.0, 4.0], [9.0, 10.0]]])


def task(**options):
    return Depth("far", DepthOptions(kind="depth", **options))


def fitted(made, cell, size=(2, 2)):
    images = ImageSet("rooms", [np.zeros((2, 2, 3), np.uint8)], {"depth": [cell]})
    labels = made.read_labels(images)
    return made.fit_labels(images, labels, np.array([[2, 2]]), size).value["depth"][0]


def test_losses_of_a_worked_example():
    """Three known pixels: |1 − 2|, 0, |10 − 5|; of inverses 1 − 1/2, 0, 1/5 − 1/10."""
    loss, weight = task().loss(FOUND, {"depth": TRUE})
    assert_close(loss, torch.tensor([6.0]))
    assert_close(weight, torch.tensor([3.0]))
    loss, _ = task(loss="inverse").loss(FOUND, {"depth": TRUE})
    assert_close(loss, torch.tensor([0.6]))


def test_unknown_pixels_give_no_gradient():
    for kind in ("l1", "inverse"):
        found = FOUND.clone().requires_grad_()
        task(loss=kind).loss(found, {"depth": TRUE})[0].sum().backward()
        assert found.grad[0, 1, 0] == 0
        assert torch.isfinite(found.grad).all()


def test_errors_of_a_worked_example():
    made = task()
    metrics = made.metrics()
    metrics.update(*made.scored(FOUND, {"depth": TRUE}))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["abs_error"] == pytest.approx(2)
    assert found["rel_error"] == pytest.approx((1 / 2 + 0 + 5 / 5) / 3)
    assert found["rmse"] == pytest.approx(((1 + 25) / 3) ** 0.5)


def test_files_of_8_and_16_bits_and_arrays_say_the_same(tmp_path):
    metres = np.array([[0, 1.5], [2.0, 4.0]])
    Image.fromarray((metres * 1000).astype(np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray((metres * 50).astype(np.uint8)).save(tmp_path / "small.png")
    np.save(tmp_path / "metres.npy", metres)
    for cell, scale in (("wide.png", 0.001), ("small.png", 0.02), ("metres.npy", 1.0)):
        assert_close(fitted(task(scale=scale), tmp_path / cell), metres.astype(np.float32))


def test_a_disparity_is_scaled_and_shifted_but_0_stays_unknown():
    """Cityscapes: (value − 1) / 256, 0 where there is none."""
    written = np.array([[0, 257], [513, 1]], np.uint16)
    found = fitted(task(scale=1 / 256, offset=-1 / 256), written)
    assert_close(found, np.array([[0, 1], [2, 0]], np.float32))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (np.zeros((3, 2)), "2 × 3 pixels, its image 2 × 2"),
        (np.full((2, 2), -1.0), "expected 0 (unknown) or more"),
        (np.zeros((2, 2, 3)), "expected one"),
        ("nowhere.png", "no image file"),
    ],
)
def test_maps_that_do_not_fit_are_told(cell, reason):
    with pytest.raises(DataError) as error:
        fitted(task(), cell)
    assert reason in str(error.value)
    assert "rooms[0]" in str(error.value)


def test_an_array_file_with_objects_is_not_opened(tmp_path):
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"bad\.npy"):
        fitted(task(), tmp_path / "bad.npy")


@pytest.mark.parametrize("decoder", ["fpn", "unet", "deeplab", "conv"])
def test_every_decoder_gives_positive_depths_of_the_images_size(decoder):
    made = task(decoder=decoder, width=4)
    shapes = [FeatureShape(8, 6, 8), FeatureShape(8, 3, 4), FeatureShape(16, 2, 2)]
    shapes = [FeatureShape(4, 12, 16), *shapes][-made.taps :]
    head = made.head(shapes, (12, 16))
    maps = [torch.randn(2, s.channels, s.height, s.width) for s in shapes]
    found = head(maps[0] if made.taps == 1 else maps)
    assert found.shape == (2, 12, 16)
    assert (found > 0).all()


def test_answers_have_the_size_of_the_picture():
    (answer,) = task().read(FOUND, [(4, 4)])
    assert np.array(answer["depth"]).shape == (4, 4)
    assert answer["median_depth"] == pytest.approx(6.5)


def test_chance_is_the_best_constant():
    depths = torch.tensor([[[1.0, 2.0], [0.0, 6.0]]])
    made = task()
    assert made.chance(made.tally({"depth": depths}))["abs_error"] == pytest.approx(5 / 3)

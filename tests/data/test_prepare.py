import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polytask.batch import Input
from polytask.data.prepare import CENTRED, IMAGENET, prepare


def test_worked_numbers():
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    assert_close(CENTRED(ends)[0, 0, 0], torch.tensor([-2.0, 2.0]))
    # (1 − 0.406) / 0.225, the blue of published ImageNet weights
    assert_close(IMAGENET(ends)[0, 2, 0, 1], torch.tensor(2.64))


@pytest.mark.parametrize("normalisation", [CENTRED, IMAGENET])
def test_follows_the_formula(normalisation):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), np.uint8))
    mean, std = (
        torch.tensor(v).double().view(3, 1, 1) for v in (normalisation.mean, normalisation.std)
    )
    want = (images.double() / 255 - mean) / std
    assert_close(normalisation(images).double(), want, rtol=0, atol=1e-6)


def test_one_image_alone_gives_the_bits_of_a_batch():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 3, 5, 3), np.uint8))
    batch = IMAGENET(images)
    for one, row in zip(images, batch, strict=True):
        assert torch.equal(IMAGENET(one[None])[0], row)


def test_grey_becomes_three_equal_channels():
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 1), np.uint8)
    seen = prepare(image, Input(3, 5, 5))
    assert seen.shape == (3, 5, 5)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert_close(seen[0], (torch.from_numpy(image[..., 0]) / 255 - 0.5) / 0.25)


def test_a_picture_of_any_shape_is_brought_to_the_input():
    image = np.full((30, 10, 3), 51, np.uint8)
    assert_close(prepare(image, Input(3, 8, 6)), torch.full((3, 8, 6), -1.2))


def test_resizing_is_bilinear():
    image = np.array([[0, 100]], np.uint8)[..., None]
    row = prepare(image, Input(3, 1, 4))[0, 0]
    # Pixel centres of the four lie at −0.25, 0.25, 0.75 and 1.25 of the two.
    assert_close(
        (row * 0.25 + 0.5) * 255, torch.tensor([0.0, 25.0, 75.0, 100.0]), rtol=0, atol=1e-3
    )

"""Jigsaw and jigsaw++: permutation sets with a guarantee, tiles that can be laid back."""

import numpy as np
import pytest
import torch
from raw_images import raw_of, task_of

from polytask.errors import UserError
from polytask.tasks.pretext.permutations import distant_permutations, spread_permutations
from polytask.tasks.pretext.tiles import TileGrid, permuted, standardised
from polytask.tasks.task import FeatureShape


def distances(permutations: np.ndarray) -> np.ndarray:
    """Hamming distances of all pairs."""
    apart = (permutations[:, None] != permutations[None]).sum(-1)
    return apart[np.triu_indices(len(permutations), 1)]


@pytest.mark.parametrize(
    ("tiles", "count", "least", "mean"),
    [(9, 30, 7, 0.888123), (9, 100, 6, 0.891874), (4, 12, 3, 0.818182), (4, 24, 2, 0.782609)],
)
def test_permutations_are_far_apart(tiles, count, least, mean):
    found = spread_permutations(tiles, count)
    assert (np.sort(found, axis=1) == np.arange(tiles)).all()
    assert distances(found).min() == least
    assert distances(found).mean() / tiles == pytest.approx(mean, abs=1e-6)


def test_701_permutations_stay_unique_with_two_tiles_hidden():
    found = distant_permutations(9, 701, 3)
    assert found.shape == (701, 9)
    assert distances(found).min() >= 3


def test_a_class_is_the_order_of_the_tiles(photos):
    """Laid back, the tiles are those of the image, which are standardised one by one."""
    for mode in ("siamese", "mosaic"):
        task = task_of("jigsaw", grid=2, mode=mode)
        raw = raw_of(photos, training=False)
        made = task.make(raw)
        grid = TileGrid.of(2, 32, 32)
        assert (grid.side, grid.room) == (14, 2)
        if mode == "siamese":
            tiles = made.images.view(12, 4, 3, 14, 14).numpy()
        else:
            assert made.images.shape == (12, 3, 28, 28)
            cut = made.images.view(12, 3, 2, 14, 2, 14)
            tiles = cut.permute(0, 2, 4, 1, 3, 5).reshape(12, 4, 3, 14, 14).numpy()
        back = permuted(tiles, task.permutations[made.target].argsort(1))
        expected = photos.reshape(12, 3, 2, 16, 2, 16)[:, :, :, 1:15, :, 1:15]
        expected = expected.transpose(0, 2, 4, 1, 3, 5).reshape(12, 4, 3, 14, 14)
        assert np.array_equal(back, standardised(expected.astype(float)))


def test_tiles_have_mean_0_and_deviation_1(photos):
    tiles = task_of("jigsaw").make(raw_of(photos)).images
    flat = tiles.flatten(1).double()
    torch.testing.assert_close(flat.mean(1), torch.zeros(len(flat)).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(flat.std(1, correction=0), torch.ones(len(flat)).double())
    assert np.isfinite(standardised(np.full((1, 3, 4, 4), 7.0))).all()


def test_grey_tiles_have_equal_channels(photos):
    grey = task_of("jigsaw", grey=1.0).make(raw_of(photos)).images
    assert torch.equal(grey[:, 0], grey[:, 1])
    colour = task_of("jigsaw", grey=0.0).make(raw_of(photos)).images
    assert not torch.equal(colour[:, 0], colour[:, 1])


def test_at_most_two_tiles_are_foreign_and_none_in_scoring():
    task = task_of("jigsaw_pp")
    plain = np.zeros((300, 3, 30, 30), np.uint8)
    hidden = task.occluded(raw_of(plain)).sum(1)
    counts = np.bincount(hidden, minlength=3)
    assert len(counts) == 3
    assert (counts > 70).all()  # each a third of 300
    ramp = np.arange(30, dtype=np.uint8)[None, None, None] * np.ones((2, 3, 30, 1), np.uint8)
    pair = np.concatenate([ramp[:1], ramp[:1].swapaxes(2, 3)])  # tiles rise rightwards or down
    for key in range(20):
        for training in (True, False):
            tiles = task.make(raw_of(pair, key=key, training=training)).images.view(2, 9, 3, 8, 8)
            falls = (tiles.diff(dim=-2).abs().mean((2, 3, 4)) > 0.1)[0].sum()
            assert falls <= (2 if training else 0)


def test_more_orders_than_there_are_is_refused():
    with pytest.raises(UserError, match="4 tiles have 24 orders"):
        task_of("jigsaw", grid=2, permutations=25)


def test_a_mosaic_is_told_by_what_lies_where():
    """Maps with the same mean and other places have other answers; a tile's own places do not."""
    torch.manual_seed(0)
    head = task_of("jigsaw", grid=2, mode="mosaic").head([FeatureShape(3, 4, 4)], (28, 28))
    maps = torch.randn(1, 3, 4, 4)
    swapped = torch.cat([maps[..., 2:], maps[..., :2]], dim=-1)
    assert not torch.allclose(head(maps), head(swapped))
    within = maps.view(1, 3, 2, 2, 2, 2).flip(3).reshape(1, 3, 4, 4)
    torch.testing.assert_close(head(within), head(maps))

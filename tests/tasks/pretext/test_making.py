"""What a pretext task makes of an image depends on (seed, epoch, index) alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask import registry
from polytask.batch import Input

KINDS = [name for name, e in registry.entries("tasks").items() if e.family == "pretext"]


def test_the_kinds():
    assert set(KINDS) == {
        *("rotation", "relative_position", "jigsaw", "jigsaw_pp"),
        *("colorization", "reconstruction", "wnet", "simsiam", "dino"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_does_not_matter(kind, task, raw, photos):
    """An image alone, or among others in another order, gives the same inputs and target."""
    pretext = task(kind)
    whole = pretext.make(raw(photos))
    order = [7, 2, 11]
    some = pretext.make(raw(photos, order))
    images = whole.images.view(len(photos), pretext.views, *whole.images.shape[1:])
    assert torch.equal(some.images, images[order].flatten(0, 1))
    assert torch.equal(some.target, whole.target[order])


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_what_the_task_says(kind, task, raw, photos):
    pretext = task(kind)
    made = pretext.make(raw(photos))
    seen = pretext.input(Input(3, 32, 32))
    assert made.images.shape == (12 * pretext.views, 3, seen.height, seen.width)
    assert len(made.target) == 12


@pytest.mark.parametrize("kind", ["rotation", "relative_position", "jigsaw", "jigsaw_pp"])
def test_epochs_differ_and_repeat(kind, task, raw, photos):
    pretext = task(kind)
    first, again, other = (pretext.make(raw(photos, key=k)) for k in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.target, other.target)
    assert len(set(other.target.tolist())) > 3


@given(st.integers(0, 2**40), st.integers(1, 1000), st.integers(1, 5))
def test_draws_lie_in_their_range(key, limit, count):
    from raw_images import raw_of

    made = raw_of(np.zeros((6, 3, 1, 1), np.uint8), key=key)
    below, share = made.below(limit, "a", count), made.share("a", count)
    assert below.shape == share.shape == (6, count)
    assert (below >= 0).all()
    assert (below < limit).all()
    assert (share >= 0).all()
    assert (share < 1).all()
    assert not np.array_equal(made.bits("a", count), made.bits("b", count))


def test_strangers_are_others():
    from raw_images import raw_of

    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, axis=1)
    drawn = np.concatenate([raw_of(pixels, key=k).strangers("s")[:, 0, 0, 0] for k in range(200)])
    pairs = drawn.reshape(200, 5)
    for own in range(5):
        counts = np.bincount(pairs[:, own], minlength=5)
        assert counts[own] == 0
        assert (counts[np.arange(5) != own] > 25).all()
    alone = raw_of(pixels[:1]).strangers("s")
    assert np.array_equal(alone, pixels[:1])

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.mixing import Feed, Mix, pass_order

pools = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def mix_of(sizes, share):
    pools = [np.arange(n) * 3 + k for k, n in enumerate(sizes)]
    return Mix([Feed(f"set{k}", ("t",), pool) for k, pool in enumerate(pools)], share)


@given(pools, st.integers(1, 20), st.integers(0, 3))
def test_every_image_is_drawn_floor_or_ceil_of_its_share(sizes, share, epoch):
    mix = mix_of(sizes, share)
    longest = max(sizes)
    for feed in mix.feeds:
        drawn = mix.draws(feed, seed=1, epoch=epoch)
        assert len(drawn.index) == longest
        n = len(feed.pool)
        counts = Counter(drawn.index.tolist())
        assert set(counts) == set(feed.pool.tolist())
        assert set(counts.values()) <= {longest // n, -(-longest // n)}
        # Within a pass no image comes twice, and the passes follow one another.
        assert len(set(zip(drawn.index.tolist(), drawn.passes.tolist(), strict=True))) == longest
        assert drawn.passes.tolist() == [k // n for k in range(longest)]


@given(pools, st.integers(1, 20))
def test_turns_cut_an_epoch_into_even_steps(sizes, share):
    mix = mix_of(sizes, share)
    turns = [mix.turn(step) for step in range(mix.steps)]
    assert [turn.start for turn in turns[1:]] == [turn.stop for turn in turns[:-1]]
    assert (turns[0].start, turns[-1].stop) == (0, mix.longest)
    lengths = {turn.stop - turn.start for turn in turns}
    assert max(lengths) <= share
    assert max(lengths) - min(lengths) <= 1


def test_the_published_epoch():
    """P0: 64,058 images beside 90,173 are 180,346 samples, 704.5 batches of 256."""
    mix = Mix([Feed("a", ("a",), np.arange(64_058)), Feed("b", ("b",), np.arange(90_173))], 128)
    assert mix.longest * 2 == 180_346
    assert mix.steps == -(-90_173 // 128) == 705


@given(st.sets(st.integers(0, 80), min_size=2), st.data())
def test_leaving_images_out_keeps_the_order_of_the_others(images, data):
    whole = np.array(sorted(images))
    kept = np.array(sorted(data.draw(st.sets(st.sampled_from(sorted(images)), min_size=1))))
    order = pass_order(5, "set", 2, 1, whole)
    assert sorted(order.tolist()) == whole.tolist()
    assert pass_order(5, "set", 2, 1, kept).tolist() == [i for i in order.tolist() if i in kept]


@pytest.mark.parametrize("other", [(1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)])
def test_seed_name_epoch_and_pass_each_change_the_order(other):
    pool = np.arange(50)
    order = pass_order(0, "a", 0, 0, pool)
    assert pass_order(0, "a", 0, 0, pool).tolist() == order.tolist()
    assert pass_order(*other, pool).tolist() != order.tolist()


def test_every_image_comes_first_equally_often():
    first = [pass_order(0, "a", epoch, 0, np.arange(5))[0] for epoch in range(2000)]
    counts = np.bincount(first, minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 18.5  # χ² with 4 degrees of freedom, p = 0.001


def test_nothing_to_draw_takes_no_step():
    assert Mix([], share=4).steps == 0

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.config.models import Config
from polytask.data.mixing import Feed, mixed, pass_order

pools = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def mix_of(sizes, share):
    pools = [np.arange(n) * 3 + k for k, n in enumerate(sizes)]
    feeds = [Feed(f"set{k}", ("t",), pool) for k, pool in enumerate(pools)]
    return mixed(feeds, [1.0] * len(feeds), share * len(feeds), together=True)


@given(pools, st.integers(1, 20), st.integers(0, 3))
def test_every_image_is_drawn_floor_or_ceil_of_its_share(sizes, share, epoch):
    mix = mix_of(sizes, share)
    longest = max(sizes)
    for k, feed in enumerate(mix.feeds):
        drawn = mix.draws(k, seed=1, epoch=epoch)
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
    turns = [mix.turn(0, step) for step in range(mix.steps)]
    assert [turn.start for turn in turns[1:]] == [turn.stop for turn in turns[:-1]]
    assert (turns[0].start, turns[-1].stop) == (0, max(sizes))
    lengths = {turn.stop - turn.start for turn in turns}
    assert max(lengths) <= share
    assert max(lengths) - min(lengths) <= 1


def test_the_published_epoch():
    """P0: 64,058 images beside 90,173 are 180,346 samples, 704.5 batches of 256."""
    feeds = [Feed("a", ("a",), np.arange(64_058)), Feed("b", ("b",), np.arange(90_173))]
    mix = mixed(feeds, [1.0, 1.0], 256, together=True)
    assert sum(mix.lengths) == 180_346
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
    assert mixed([], [], 4, together=True).steps == 0


SETS = st.lists(st.tuples(st.integers(1, 60), st.floats(0.1, 10)), min_size=1, max_size=4)


@given(SETS, st.integers(4, 40), st.booleans())
def test_draws_follow_the_weights_and_the_largest_set_passes_once(sets, batch, together):
    feeds = [Feed(f"set{k}", ("t",), np.arange(n)) for k, (n, _) in enumerate(sets)]
    weights = [weight for _, weight in sets]
    mix = mixed(feeds, weights, batch, together)
    largest = max(range(len(sets)), key=lambda k: sets[k][0])
    assert mix.lengths[largest] == sets[largest][0]
    for length, weight in zip(mix.lengths, weights, strict=True):
        exact = sets[largest][0] * weight / weights[largest]
        assert length == max(1, round(exact))
    for k, length in enumerate(mix.lengths):
        turns = [mix.turn(k, step) for step in range(mix.steps)]
        assert (turns[0].start, turns[-1].stop) == (0, length)
        assert len(mix.draws(k, 0, 0)) == length
    for step in range(mix.steps):
        images = [turn.stop - turn.start for turn in (mix.turn(k, step) for k in range(len(sets)))]
        # A set that is drawn less than once a step still gives one image now and then.
        assert (sum(images) if together else max(images)) <= batch + len(sets)


@pytest.mark.parametrize(
    ("sampling", "weights"),
    [
        ("balanced", [1, 1]),
        ("size", [400, 100]),
        ({"name": "temperature", "temperature": 2}, [20, 10]),
        ({"name": "temperature", "temperature": 1}, [400, 100]),
        ({"name": "ratios", "ratios": {"a": 3}}, [3, 1]),
    ],
)
def test_weights_by_size_temperature_and_ratios(sampling, weights):
    found = Config(sampling=sampling).sampling.weights([("a", 400), ("b", 100)])
    assert found == pytest.approx(weights)

import numpy as np

from polytask.randomness import counter_hash, stable_hash

# The first outputs of SplitMix64 with seed 1234567, as its reference implementation prints them.
SPLITMIX = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_one_counter_is_splitmix64():
    assert counter_hash(1234567, np.arange(5)).tolist() == SPLITMIX


def test_an_element_depends_on_its_own_counters_alone():
    grid = counter_hash(3, np.arange(4)[:, None], np.arange(5))
    assert grid.shape == (4, 5)
    assert len(np.unique(grid)) == 20
    assert grid[2, 4] == counter_hash(3, 2, 4)
    assert grid[2, 4] != counter_hash(4, 2, 4)
    assert grid[2, 4] != counter_hash(3, 4, 2)


def test_every_bit_is_fair():
    bits = counter_hash(7, np.arange(20_000))[:, None] >> np.arange(64, dtype=np.uint64)
    share = (bits & np.uint64(1)).mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(20_000)


def test_names_are_told_apart():
    assert stable_hash("a", 1) == stable_hash("a", "1")
    assert len({stable_hash("ab", "c"), stable_hash("a", "bc"), stable_hash("abc")}) == 3
    assert 0 <= stable_hash("x") < 2**63

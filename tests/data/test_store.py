import numpy as np
import pytest
from PIL import Image

from polytask.data.images import ImageSet
from polytask.data.store import CHUNK, LazyStore, MemoryStore, fill, first_size
from polytask.errors import DataError

MEMORY = 2 << 30
ALL = [MEMORY, 0]  # kept in memory, decoded when drawn


def image_set(pixels):
    return ImageSet("set", list(pixels), {})


def pixels(count, height=4, width=4, channels=1, seed=0):
    shape = (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("memory", ALL)
def test_images_come_back_by_their_number_in_any_order(memory):
    images = pixels(3 * CHUNK + 5, channels=3)
    used = np.arange(0, len(images), 2)
    store = fill(image_set(images), used, [(4, 4)], memory).store
    asked = np.random.default_rng(1).permutation(used)
    assert np.array_equal(store.take(asked), images[asked].transpose(0, 3, 1, 2))


def test_files_read_alike_with_and_without_memory(tmp_path):
    images = pixels(20, 6, 5, 3)
    paths = []
    for i, image in enumerate(images):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    files = ImageSet("set", paths, {})
    kept, drawn = (fill(files, np.arange(20), [(8, 8), (9, 9)], memory) for memory in ALL)
    assert isinstance(kept.store, MemoryStore)
    assert isinstance(drawn.store, LazyStore)
    assert kept.digest == drawn.digest
    asked = np.array([7, 0, 7, 19])
    assert np.array_equal(kept.store.take(asked), drawn.store.take(asked))
    assert kept.store.take(asked).shape == (4, 3, 9, 9)


@pytest.mark.parametrize("memory", ALL)
def test_grey_is_stored_once_and_spread_only_beside_colour(memory):
    grey, colour = pixels(2), pixels(1, channels=3, seed=1)
    alone = fill(image_set(grey), np.arange(2), [(4, 4)], memory).store
    assert alone.take(np.array([1])).shape == (1, 1, 4, 4)
    both = fill(image_set([grey[0], colour[0], grey[1]]), np.arange(3), [(4, 4)], memory).store
    taken = both.take(np.arange(3))
    assert np.array_equal(taken[0], np.repeat(grey[0].transpose(2, 0, 1), 3, axis=0))
    assert np.array_equal(taken[1], colour[0].transpose(2, 0, 1))
    assert np.array_equal(taken[2], np.repeat(grey[1].transpose(2, 0, 1), 3, axis=0))


@pytest.mark.parametrize("memory", ALL)
def test_a_bad_image_is_told_with_its_place_and_hides_no_other(memory, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    good = pixels(2)
    images = ImageSet("set", [good[0], bad, good[1]], {}, places=["t.csv:2", "t.csv:3", "t.csv:4"])
    filled = fill(images, np.arange(3), [(4, 4)], memory)
    assert list(filled.faults) == [1]
    assert filled.faults[1].where == "t.csv:3"
    assert "bad.png" in filled.faults[1].problem
    taken = filled.store.take(np.array([2, 0]))
    assert np.array_equal(taken, good[[1, 0]].transpose(0, 3, 1, 2))


def test_memory_counts_images_in_colour():
    images = image_set(pixels(10))
    enough = 10 * 3 * 8 * 8
    assert isinstance(fill(images, np.arange(10), [(8, 8)], enough).store, MemoryStore)
    assert isinstance(fill(images, np.arange(10), [(8, 8)], enough - 1).store, LazyStore)
    assert fill(images, np.arange(10), [(8, 8)], enough).store.bytes == 10 * 8 * 8
    assert fill(images, np.arange(10), [(8, 8)], 0).store.bytes == 0


def test_the_digest_tells_pixels_shapes_and_places_not_the_size_in_the_network():
    images = pixels(4)
    index = np.arange(4)

    def digest(images, index=index, size=(4, 4)):
        return fill(image_set(images), index, [size], MEMORY).digest

    changed = images.copy()
    changed[3, 0, 0, 0] ^= 1
    assert digest(images) == digest(images.copy()) == digest(images, size=(9, 9))
    others = [changed, images[::-1], images.reshape(4, 2, 8, 1)]
    found = {digest(images), *(digest(o) for o in others), digest(images, index[:3])}
    assert len(found) == 5


def test_own_sizes_are_height_and_width():
    mixed = [pixels(1, 3, 5)[0], pixels(1, 4, 4)[0], pixels(1, 3, 5)[0]]
    filled = fill(image_set(mixed), np.array([0, 1]), [(4, 4)], MEMORY)
    assert filled.sizes.tolist() == [[3, 5], [4, 4], [0, 0]]  # the third was not read
    assert first_size(image_set(mixed), np.array([2])) == (3, 5)


def test_the_first_size_is_that_of_the_first_sound_image(tmp_path):
    images = ImageSet("set", [tmp_path / "none.png", pixels(1, 3, 5)[0]], {})
    assert first_size(images, np.arange(2)) == (3, 5)
    with pytest.raises(DataError, match=r"none\.png"):
        first_size(images, np.arange(1))

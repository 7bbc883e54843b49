"""Images in two splits at once: found by their pixels, and by what they show."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from polytask.data import duplicates
from polytask.data.duplicates import Prints, nearly_same, print_of, same_pixels


def photographs(count, side=96):
    """Smooth random pictures: as photographs, most of what they show is coarse."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        large = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        yield np.array(large.filter(ImageFilter.GaussianBlur(2)))


def recompressed(pixels):
    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.resize((picture.width * 7 // 10,) * 2).save(stream, "jpeg", quality=60)
    return np.array(Image.open(stream))


def prints(pictures):
    digests, thumbnails = zip(*map(print_of, pictures), strict=True)
    return Prints(digests, np.stack(thumbnails))


@pytest.fixture(scope="module")
def pictures():
    return list(photographs(60))


def test_the_same_pixels_in_two_splits_are_one_group(pictures):
    found = prints([pictures[0], pictures[1], pictures[0], pictures[1], pictures[0]])
    assert same_pixels(found, np.array([0, 0, 1, 0, 2])) == [[0, 2, 4]]
    assert same_pixels(found, np.array([0, 0, 0, 0, -1])) == []


def test_images_that_cannot_be_read_are_no_duplicates(pictures):
    one = prints(pictures[:1]).thumbnails[0]
    unread = Prints([b"", b""], np.stack([one, one]))
    assert same_pixels(unread, np.array([0, 1])) == []
    assert nearly_same(unread, np.array([0, 1])) == []


def test_the_shape_is_part_of_the_pixels():
    flat = np.arange(12, dtype=np.uint8)
    assert print_of(flat.reshape(3, 4, 1))[0] != print_of(flat.reshape(4, 3, 1))[0]


def test_recompressed_pictures_are_found_and_others_are_not(pictures):
    found = prints([*pictures, *map(recompressed, pictures)])
    owner = np.repeat([0, 2], len(pictures))
    expected = [(i, i + len(pictures)) for i in range(len(pictures))]
    assert sorted(nearly_same(found, owner)) == expected
    assert same_pixels(found, owner) == []


def test_pairs_within_a_split_or_outside_of_all_do_not_count(pictures):
    found = prints([pictures[0], recompressed(pictures[0])])
    for owner in ([0, 0], [0, -1], [-1, -1]):
        assert nearly_same(found, np.array(owner)) == []


def test_the_same_pixels_are_not_told_twice(pictures):
    assert nearly_same(prints([pictures[0], pictures[0]]), np.array([0, 1])) == []


def test_working_in_parts_changes_nothing(pictures, monkeypatch):
    found = prints([*pictures, *map(recompressed, pictures)])
    owner = np.r_[np.tile([0, 1, 2], 20), np.tile([1, 2, 0], 20)]
    whole = nearly_same(found, owner)
    assert len(whole) > 20
    monkeypatch.setattr(duplicates, "AT_ONCE", 500)
    assert nearly_same(found, owner) == whole


def test_too_many_pairs_are_not_looked_at(pictures, monkeypatch):
    found = prints(pictures[:4])
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 4)
    assert nearly_same(found, np.array([0, 0, 1, 1])) == []
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 3)
    assert nearly_same(found, np.array([0, 0, 1, 1])) is None


def test_pictures_with_the_same_slopes_need_not_be_the_same():
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))
    straight, bent = (
        (255 * grey).astype(np.uint8)[..., None] for grey in (ramp, ramp**3 * 0.8 + 0.1 * ramp)
    )
    found = prints([straight, bent])
    hashes = duplicates._difference_hash(found.thumbnails)
    assert hashes[0] == hashes[1]  # every cell is darker than the one to its right
    assert nearly_same(found, np.array([0, 1])) == []

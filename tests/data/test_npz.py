"""NumPy archives: columns, splits, a part of the images, and what is refused."""

import numpy as np
import pytest

from polytask.data.sources.npz import Npz
from polytask.errors import DataError


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 9, 7), dtype=np.uint8)
    label, late = np.arange(12) % 3, np.arange(12) >= 8
    np.savez(tmp_path / "set.npz", image=images, label=label, late=late, names=np.array(["a", "b"]))
    return tmp_path, images


def read(folder, **options):
    return Npz(source="npz", **{"path": "set.npz", **options}).load("things", folder)


def test_arrays_of_the_images_length_are_columns(archive):
    folder, images = archive
    found = read(folder)
    assert np.array_equal(found.images, images)
    assert set(found.columns) == {"label", "late"}
    assert found.columns["label"] == [k % 3 for k in range(12)]
    assert found.splits == {}
    assert found.default_label == "label"


def test_nan_and_empty_text_are_blank(tmp_path):
    kind, size = np.array(["cat", "", " "]), np.array([[1.5, np.nan]] * 3)
    np.savez(tmp_path / "set.npz", image=np.zeros((3, 2, 2), np.uint8), kind=kind, size=size)
    columns = read(tmp_path).columns
    assert columns == {"kind": ["cat", None, None], "size_0": [1.5] * 3, "size_1": [None] * 3}


def test_booleans_and_words_name_splits(archive):
    folder, images = archive
    found = read(folder, split="late")
    assert found.splits["train"].tolist() == list(range(8))
    assert found.splits["test"].tolist() == list(range(8, 12))
    assert set(found.columns) == {"label"}
    words = np.array(["train", "val", "test"] * 4)
    np.savez(folder / "words.npz", image=images, part=words)
    assert read(folder, path="words.npz", split="part").splits["val"].tolist() == [1, 4, 7, 10]


def test_only_keeps_the_images_with_a_value(archive):
    folder, images = archive
    found = read(folder, only={"label": ["0", "2"]}, split="late")
    kept = [k for k in range(12) if k % 3 != 1]
    assert np.array_equal(found.images, images[kept])
    assert found.columns["label"] == [k % 3 for k in kept]
    assert [kept[i] for i in found.splits["test"]] == [k for k in kept if k >= 8]
    assert found.place(2).endswith("set.npz[3]")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": "imag"}, 'Did you mean "image"?'),
        ({"images": "label"}, "expected uint8"),
        ({"split": "lat"}, 'Did you mean "late"?'),
        ({"split": "label"}, 'label holds "0"'),
        ({"only": {"label": ["7"]}}, 'unknown value "7"'),
        ({"only": {"colour": ["7"]}}, "data.things.only.colour"),
        ({"path": "sets.npz"}, 'Did you mean "set.npz"?'),
    ],
)
def test_what_does_not_fit_is_told(archive, options, said):
    with pytest.raises(DataError) as error:
        read(archive[0], **options)
    assert said in str(error.value)


def test_objects_and_damaged_archives_are_refused(archive):
    folder, images = archive
    odd = np.array([{"a": 1}] * 12, dtype=object)
    np.savez(folder / "odd.npz", image=images, label=odd)
    with pytest.raises(DataError, match="objects, which is not read"):
        read(folder, path="odd.npz")
    whole = (folder / "set.npz").read_bytes()
    for part in (b"", whole[: len(whole) // 2], b"not an archive"):
        (folder / "part.npz").write_bytes(part)
        with pytest.raises(DataError, match="complete"):
            read(folder, path="part.npz")

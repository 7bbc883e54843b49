"""Images of one group stay in one split; and a data set narrowed to some values of a column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.images import SPLITS, ImageSet
from polytask.data.sources.manifest import Manifest
from polytask.data.splits import complete_splits
from polytask.errors import DataError


def image_set(count, groups=None, **more):
    images = np.zeros((count, 2, 2), np.uint8)
    return ImageSet("things", images, {"kind": ["a"] * count}, groups=groups, **more)


def source(**options):
    return Manifest(source="manifest", path="shelf.csv", **options)


@given(st.lists(st.integers(0, 12), max_size=200), st.integers(0, 3))
def test_no_group_is_in_two_splits_and_no_image_is_lost(numbers, classes):
    cells = [*numbers, *[None] * 40]
    strata = np.array([(c or 0) % (classes + 1) for c in cells])
    splits = complete_splits(image_set(len(cells), cells), source(), strata)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(cells)))
    homes = {
        cell: {split for split in SPLITS for i in splits[split] if cells[i] == cell}
        for cell in set(cells) - {None}
    }
    assert all(len(home) == 1 for home in homes.values())


def test_single_images_are_split_as_without_groups():
    strata = np.arange(100) % 3
    alone = complete_splits(image_set(100), source(), strata)
    for groups in ([None] * 100, list(range(100))):
        grouped = complete_splits(image_set(100, groups), source(), strata)
        assert all(np.array_equal(grouped[split], alone[split]) for split in SPLITS)


def test_a_share_is_that_of_groups():
    groups = [i // 4 for i in range(400)]
    splits = complete_splits(image_set(400, groups), source(), np.zeros(400, int))
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 280,
        "val": 60,
        "test": 60,
    }


def test_a_group_in_two_given_splits_is_told():
    splits = {"train": np.array([0, 1, 2]), "test": np.array([3, 4])}
    images = image_set(5, ["x", "y", None, "x", None], splits=splits, places=list("abcde"))
    with pytest.raises(DataError, match=r"^d: group x is in test, and in train at a"):
        complete_splits(images, source(val=0), np.zeros(5, int))


def table(tmp_path, text):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    (tmp_path / "shelf.csv").write_text(text)
    return tmp_path


def test_a_manifest_names_groups_or_the_config_does(tmp_path):
    rows = "image,group,kind,person\na.png,x,soap,1\nb.png,x,tea,2\nc.png,,tea,2\n"
    folder = table(tmp_path, rows)
    images = source().load("shelf", folder)
    assert images.groups == ["x", "x", None]
    assert list(images.columns) == ["kind", "person"]
    assert source(group="person").load("shelf", folder).groups == ["1", "2", "2"]
    with pytest.raises(DataError, match=r'data\.shelf\.group: unknown column "persno".*"person"'):
        source(group="persno").load("shelf", folder)


def test_a_narrowed_set_keeps_what_belongs_to_its_images(tmp_path):
    header = "image,split,group,kind,wet\n"
    rows = f"{header}a.png,train,1,soap,0\nb.png,test,2,tea,1\nc.png,train,3,tea,1\n"
    images = source(only={"kind": ["tea"]}).load("shelf", table(tmp_path, rows))
    assert images.columns == {"kind": ["tea", "tea"], "wet": ["1", "1"]}
    assert images.images == [tmp_path / "b.png", tmp_path / "c.png"]
    assert {split: rows.tolist() for split, rows in images.splits.items()} == {
        "train": [1],
        "test": [0],
    }
    assert images.place(0).endswith("shelf.csv:3")
    assert images.groups == ["2", "3"]
    known = ImageSet(
        "things",
        np.arange(3, dtype=np.uint8).reshape(3, 1, 1),
        {"kind": ["a", "b", "c"]},
        classes={"kind": ["c", "b", "a"], "mask": ["x", "y"]},
    ).narrowed({"kind": ["a", "c"]})
    assert known.images.ravel().tolist() == [0, 2]
    assert known.classes == {"kind": ["c", "a"], "mask": ["x", "y"]}


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ({"knid": ["tea"]}, r'only\.knid: unknown column "knid".*Did you mean "kind"'),
        ({"kind": ["te"]}, r'only\.kind: unknown value "te"; expected one of soap, tea'),
    ],
)
def test_values_and_columns_that_are_not_there_are_told(tmp_path, only, said):
    folder = table(tmp_path, "image,kind\na.png,soap\nb.png,tea\n")
    with pytest.raises(DataError, match=said):
        source(only=only).load("shelf", folder)

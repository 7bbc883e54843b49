"""Hugging Face data sets: saved to disk, as Parquet files, and what is refused."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from polytask.data.decode import read_image, read_mask
from polytask.data.sources.hf import Hf
from polytask.errors import DataError

datasets = pytest.importorskip("datasets", reason='needs: pip install "polytask[hf]"')


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def pixels(i):
    return np.full((6, 5, 3), i, np.uint8)


def part(first, count):
    numbers = range(first, first + count)
    return datasets.Dataset.from_dict(
        {
            "image": [Image.fromarray(pixels(i)) for i in numbers],
            "label": [i % 3 - (i == 4) * 2 for i in numbers],
            "note": ["" if i % 2 else f"n{i}" for i in numbers],
            "mask": [Image.fromarray(pixels(i)[..., 0] % 2) for i in numbers],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["a", "b", "c"]),
                "note": datasets.Value("string"),
                "mask": datasets.Image(),
            }
        ),
    )


def saved(folder):
    both = datasets.DatasetDict(
        {"train": part(0, 6), "validation": part(6, 3), "extra": part(9, 2)}
    )
    both.save_to_disk(folder / "disk")
    (folder / "parquet").mkdir()
    both["train"].to_parquet(folder / "parquet" / "train-00000-of-00001.parquet")
    both["validation"].to_parquet(folder / "parquet" / "validation-00000-of-00001.parquet")
    both["train"].to_parquet(folder / "one.parquet")


@pytest.mark.parametrize("path", ["disk", "parquet"])
def test_images_labels_and_splits(tmp_path, path):
    saved(tmp_path)
    found = Hf(source="hf", path=path).load("set", tmp_path)
    assert len(found) == 9
    assert {s: rows.tolist() for s, rows in found.splits.items()} == {
        "train": list(range(6)),
        "val": [6, 7, 8],
    }
    for i in range(9):
        assert np.array_equal(read_image(found.images[i], ""), pixels(i))
        assert np.array_equal(read_mask(found.columns["mask"][i], ""), pixels(i)[..., 0] % 2)
    assert found.columns["label"] == ["a", "b", "c", "a", None, "c", "a", "b", "c"]
    assert found.columns["note"][:3] == ["n0", None, "n2"]
    assert found.default_label == "label"
    assert found.classes == {"label": ["a", "b", "c"]}
    assert found.place(7) == "set[val:1]"


def test_a_single_file_leaves_splits_to_be_made_and_lists_name_them(tmp_path):
    saved(tmp_path)
    assert Hf(source="hf", path="one.parquet").load("set", tmp_path).splits == {}
    source = Hf(source="hf", path="disk", lists={"test": "extra"})
    assert source.load("set", tmp_path).splits["test"].tolist() == [9, 10]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "dis"}, 'Did you mean "disk"?'),
        ({"path": "empty"}, "can't be read"),
        ({"path": "text.parquet"}, "can't be read"),
        ({"path": "disk", "images": "imag"}, 'Did you mean "image"?'),
        ({"path": "disk", "images": "note"}, "expected a column of images"),
        ({"path": "disk", "lists": {"test": "extr"}}, 'Did you mean "extra"?'),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, options, said):
    saved(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(DataError) as error:
        Hf(source="hf", **options).load("set", tmp_path)
    assert said in str(error.value)


def test_one_place_is_needed():
    with pytest.raises(ValidationError, match="path or hub"):
        Hf(source="hf")

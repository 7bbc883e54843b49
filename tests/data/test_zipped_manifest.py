"""A table and its images in one zip archive say what they say in a folder."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check
from polytask.data.decode import read_image, read_mask, read_values
from polytask.data.sources.manifest import Manifest
from polytask.errors import DataError

ROWS = (
    "image,split,kind,mask,depth\npics/0.png,train,a,masks/0.png,depth/0.npy\npics/1.png,test,b,,\n"
)


def png(value, side=4):
    out = io.BytesIO()
    Image.new("L", (side, side), value).save(out, "png")
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def write(tmp_path, text=ROWS, top="shelf/", **more):
    files = {
        f"{top}shelf.csv": text,
        **{f"{top}pics/{k}.png": png(k) for k in range(2)},
        f"{top}masks/0.png": png(1),
        f"{top}depth/0.npy": npy(np.full((4, 4), 2.5, np.float32)),
        **more,
    }
    with zipfile.ZipFile(tmp_path / "shelf.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return tmp_path / "shelf.zip"


def load(path, **options):
    return Manifest(source="manifest", path=path, **options).load("shelf", Path())


@pytest.mark.parametrize("top", ["", "shelf/"])
def test_images_masks_and_maps_are_found(tmp_path, top):
    images = load(write(tmp_path, top=top))
    assert [int(read_image(image, "x").max()) for image in images.images] == [0, 1]
    assert images.columns["kind"] == ["a", "b"]
    assert read_mask(images.columns["mask"][0], "x").tolist() == [[1] * 4] * 4
    assert read_values(images.columns["depth"][0], "x").tolist() == [[2.5] * 4] * 4
    assert images.columns["depth"][1] is None
    assert images.place(1).endswith(f"shelf.zip:{top}shelf.csv:3")
    assert list(images.splits) == ["train", "test"]


def test_of_several_tables_one_is_named(tmp_path):
    path = write(tmp_path, **{"notes.csv": "a,b\n1,2\n"})
    with pytest.raises(DataError, match=r"found shelf/shelf\.csv, notes\.csv|found notes\.csv, sh"):
        load(path)
    assert len(load(path, table="shelf/shelf.csv")) == 2
    with pytest.raises(DataError, match=r'unknown table "shelf\.cvs"'):
        load(path, table="shelf.cvs")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("../../0.png,train,a,,", "leads out of the manifest's folder"),
        ("/etc/0.png,train,a,,", "leads out of the manifest's folder"),
        ("pics/7.png,train,a,,", "no file pics/7.png"),
        (",train,a,,", "image: blank"),
    ],
)
def test_rows_that_lead_nowhere_are_told(tmp_path, row, said):
    path = write(tmp_path, ROWS + row + "\n")
    with pytest.raises(DataError, match=said) as caught:
        load(path)
    assert caught.value.faults[0].where.endswith("shelf.csv:4")


def test_members_that_lead_out_and_archives_without_a_table_are_told(tmp_path):
    with pytest.raises(DataError, match="leads out of the archive"):
        load(write(tmp_path, **{"../evil.png": png(1)}))
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as archive:
        archive.writestr("a.png", png(1))
    with pytest.raises(DataError, match=r"expected one \.csv or \.parquet; found none"):
        load(tmp_path / "bare.zip")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("polytask.data.files.MAX_UNPACKED", 1000)
    path = write(tmp_path, **{"zeros.npy": npy(np.zeros(10_000))})
    with pytest.raises(DataError, match="unpacks to more than"):
        load(path)


def test_a_zipped_parquet_table(tmp_path):
    import pyarrow as arrow
    from pyarrow import parquet

    out = io.BytesIO()
    table = arrow.table({"image": ["pics/0.png", "pics/1.png"], "kind": ["a", None]})
    parquet.write_table(table, out)
    path = write(tmp_path, top="", **{"shelf.parquet": out.getvalue()})
    assert load(path, table="shelf.parquet").columns == {"kind": ["a", None]}


def test_a_broken_map_in_an_archive_is_told_by_check(tmp_path):
    rows = "image,split,mask,depth\n" + "".join(
        f"{k}.png,{split},m{k}.png,d{k}.npy\n"
        for k, split in enumerate(["train"] * 6 + ["val", "test"])
    )
    files = {f"{k}.png": png(20 * k) for k in range(8)}
    files |= {f"m{k}.png": png(k % 2) for k in range(8)}
    files |= {f"d{k}.npy": npy(np.ones((4, 4), np.float32)) for k in range(8)}
    files |= {"m2.png": png(9), "d3.npy": npy(np.ones((5, 4))), "d4.npy": b"\x93NUMPY broken"}
    with zipfile.ZipFile(tmp_path / "shelf.zip", "w") as archive:
        for name, content in {**files, "shelf.csv": rows}.items():
            archive.writestr(name, content)
    (tmp_path / "shelf.yaml").write_text(
        "data:\n  shelf: {source: manifest, path: shelf.zip}\ntasks:\n"
        "  outline: {kind: segmentation, data: shelf, label: mask, classes: [ground, thing]}\n"
        "  far: {kind: depth, data: shelf, label: depth}\n"
    )
    told = {
        fault.where[-1]: fault.problem
        for fault in check(read_config(tmp_path / "shelf.yaml")).faults
    }
    assert "the mask holds 9" in told["4"]
    assert "4 × 5 pixels" in told["5"]
    assert "no NPY array" in told["6"]

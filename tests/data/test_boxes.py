"""Boxes in a table: what is written is what is read, whatever its columns are called."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.data.sources.boxes import Boxes
from polytask.errors import DataError

CELLS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd" / "bccd.zip"


def write(folder, boxes, index=None, names="abc"):
    (folder / "images").mkdir()
    for name in names:
        Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(folder / "images" / f"{name}.png")
    (folder / "boxes.csv").write_text(boxes)
    if index is not None:
        (folder / "index.csv").write_text(index)


def read(path, **options):
    return Boxes(source="boxes", path=path, **options).read("things", Path())


def test_an_index_tells_of_images_without_a_box(tmp_path):
    boxes = "name,class,x0,y0,x1,y1\na,dog,1,2,5,6\na,cat,0,0,10,8\nc,cat,2,2,4,10.4\n"
    write(tmp_path, boxes, "name,split,width,height\nc,train,10,10\na,test,10,8\nb,train,10,8\n")
    images = read(tmp_path)
    assert images.columns["boxes"] == [
        [("cat", 2, 2, 4, 10)],  # rounded beyond the picture, and cut
        [("dog", 1, 2, 5, 6), ("cat", 0, 0, 10, 8)],
        [],
    ]
    assert images.columns["class"] == ["cat", "cat", None]
    assert images.columns["dog"] == [0, 1, 0]
    assert {s: rows.tolist() for s, rows in images.splits.items()} == {"train": [0, 2], "test": [1]}
    assert [Path(place).name for place in images.places] == ["c.png", "a.png", "b.png"]


def test_other_names_of_columns_and_an_archive(tmp_path):
    (tmp_path / "there").mkdir()
    rows = "filename,width,label,xmin,ymin,xmax,ymax\nimages/b.png,10,dog,1,2,5,6\na.png,10,,,,,\n"
    write(tmp_path / "there", rows)
    (tmp_path / "there/boxes.csv").rename(tmp_path / "there/all.csv")
    path = tmp_path / "there.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "there").rglob("*.*"):
            archive.write(file, file.relative_to(tmp_path / "there"))
    images = read(path, table="all.csv")
    assert images.columns["boxes"] == [[("dog", 1, 2, 5, 6)], []]
    assert images.splits == {}


def test_without_classes_everything_is_an_object(tmp_path):
    write(tmp_path, "image,instance,x0,y0,x1,y1\na,1,1,2,5,6\n")
    assert read(tmp_path).columns["boxes"] == [[("object", 1, 2, 5, 6)]]


@pytest.mark.parametrize(
    ("boxes", "index", "told"),
    [
        ("name,x0,y0,x1\na,1,2,3\n", None, "has no column y1"),
        ("file,x0,y0,x1,y1\na,1,2,3,4\n", None, "has no column image or name or filename"),
        ("name,x0,y0,x1,y1\nd,1,2,3,4\n", None, "there is no image d"),
        ("name,x0,y0,x1,y1\nc,1,2,3,4\n", "name\na\n", "there is no c in index.csv"),
        ("name,x0,y0,x1,y1\na,5,2,3,4\n", None, "the box 5, 2, 3, 4 is inverted"),
        ("name,x0,y0,x1,y1\na,1,2,,4\n", None, "is not made of four numbers"),
        ("name,class,x0,y0,x1,y1\na,,1,2,3,4\n", None, "has a box without a class"),
        ("name,x0,y0,x1,y1\na,1,2,3,4\n", "name,split\na,trian\n", 'got the split "trian"'),
    ],
)
def test_faults_are_told_with_their_row(tmp_path, boxes, index, told):
    write(tmp_path, boxes, index)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    (fault,) = caught.value.faults
    assert told in fault.problem
    assert ".csv" in fault.where


@pytest.mark.skipif(not CELLS.exists(), reason="no blood cells at hand")
def test_real_blood_cells():
    images = read(CELLS)
    assert {split: len(rows) for split, rows in images.splits.items()} == {
        "train": 205,
        "val": 87,
        "test": 72,
    }
    assert sum(map(len, images.columns["boxes"])) == 4886
    assert images.classes["class"] == ["Platelets", "RBC", "WBC"]

"""Tables of images and labels: what they mean, and a line for everything that can be wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest

from polytask.data.sources.manifest import Manifest
from polytask.errors import DataError, MissingExtra
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.multilabel import Multilabel, MultilabelOptions


@pytest.fixture
def shelf(tmp_path):
    """A folder with three photographs (by name) and a mask, and a function that writes a table."""
    for name in ("1.jpg", "2.jpg", "sub/3.jpg", "masks/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"an image")

    def write(text, name="shelf.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return tmp_path

    return write


def read(folder, name="shelf.csv", **options):
    return Manifest(source="manifest", path=name, **options).read("shelf", folder)


def faults(folder, name="shelf.csv", **options):
    with pytest.raises(DataError) as caught:
        read(folder, name, **options)
    return caught.value.faults


def line(place):
    return int(place.rsplit(":", 1)[1])


def lines(found):
    return [line(fault.where) for fault in found]


TABLE = """image,split,product,dented,mask
1.jpg,train,soap,1,masks/1.png
2.jpg,test,,0,
sub/3.jpg,train,tea,,
"""


def test_cells_splits_and_places(shelf):
    folder = shelf(TABLE)
    images = read(folder)
    assert images.images == [folder / "1.jpg", folder / "2.jpg", folder / "sub" / "3.jpg"]
    assert images.columns == {
        "product": ["soap", None, "tea"],
        "dented": ["1", "0", None],
        "mask": [folder / "masks" / "1.png", None, None],
    }
    assert {split: rows.tolist() for split, rows in images.splits.items()} == {
        "train": [0, 2],
        "test": [1],
    }
    assert images.place(2) == f"{folder / 'shelf.csv'}:4"
    assert images.default_label is None


def test_tasks_read_half_blank_columns(shelf):
    images = read(shelf(TABLE))
    product = Classification(
        "product", ClassificationOptions(kind="classification", data="shelf", label="product")
    )
    found = product.read_labels(images)
    assert product.classes == ["soap", "tea"]
    assert found.present.tolist() == [True, False, True]
    damage = Multilabel(
        "damage", MultilabelOptions(kind="multilabel", data="shelf", label=["dented"])
    )
    assert damage.read_labels(images).present.tolist() == [True, True, False]


def test_a_label_that_is_no_number_is_named_with_its_row(shelf):
    images = read(shelf("image,wet\n1.jpg,1\n2.jpg,maybe\n"))
    task = Multilabel("damage", MultilabelOptions(kind="multilabel", data="shelf", label=["wet"]))
    with pytest.raises(DataError, match=r"shelf\.csv:3: wet: got \"maybe\""):
        task.read_labels(images)


def test_the_only_label_column_is_the_default(shelf):
    assert read(shelf("image,kind\n1.jpg,a\n2.jpg,b\n")).default_label == "kind"


def test_without_splits_they_are_to_be_made(shelf):
    assert read(shelf("image,kind\n1.jpg,a\n2.jpg,b\n")).splits == {}
    assert read(shelf("image,kind,split\n1.jpg,a,\n2.jpg,b,\n")).splits == {}


def test_spreadsheet_habits_are_understood(shelf):
    text = ' image , kind \r\n"1.jpg","a, b"\r\n\r\n2.jpg, Ä \r\n,\r\n'
    images = read(shelf(text, encoding="utf-8-sig"))
    assert images.columns == {"kind": ["a, b", "Ä"]}
    assert [line(place) for place in images.places] == [2, 4]


def test_rows_after_a_cell_of_two_lines_keep_their_line(shelf):
    images = read(shelf('image,note\n1.jpg,"two\nlines"\n2.jpg,one\n'))
    assert [line(place) for place in images.places] == [2, 4]


def test_all_faults_are_told_at_once_with_their_rows(shelf):
    folder = shelf("image,split\n1.jpg,train\nnone.jpg,train\n2.jpg,trian\n,test\n2.jpg,\n")
    found = faults(folder)
    assert sorted(lines(found)) == [3, 4, 5, 6]
    by_line = dict(zip(lines(found), found, strict=True))
    assert "no file none.jpg" in by_line[3].problem
    assert str(folder) in by_line[3].problem
    assert 'got "trian"; expected one of train, val, test' in by_line[4].problem
    assert by_line[4].hint == 'Did you mean "train"?'
    assert "blank" in by_line[5].problem
    assert "blank among other splits" in by_line[6].problem


def test_long_lists_of_faults_are_cut(shelf):
    found = faults(shelf("image\n" + "none.jpg\n" * 100))
    assert len(found) == 21
    assert "80 more" in found[-1].problem


@pytest.mark.parametrize(
    ("text", "row", "problem"),
    [
        (b"", None, "is empty"),
        (b"\n\n", None, "is empty"),
        (b"image,kind\n", None, "no rows"),
        (b"file,kind\n1.jpg,a\n", None, 'no column "image"; its columns are file, kind'),
        (b"image,kind,kind\n1.jpg,a,b\n", 1, 'column "kind" is there 2 times'),
        (b"image,,kind\n1.jpg,a,b\n", 1, "column 2 has no name"),
        (b"image;kind\n1.jpg;a\n", 1, "expected commas"),
        (b"image,kind\n1.jpg,a\n2.jpg\n", 3, "has 1 cells; expected 2"),
        (b"image,kind\n1.jpg,a,b\n", 2, "has 3 cells; expected 2"),
        (b"image,kind\n1.jpg,a\n2.jpg,\xe9t\xe9\n", 3, "byte 0xe9 is not UTF-8"),
        ("image,kind\n1.jpg,a\n".encode("utf-16"), 1, "byte 0xff is not UTF-8"),
        (b"image,kind\n1.jpg,\0\n", None, "not a text file"),
        (b'image,kind\n1.jpg,a\n2.jpg,"b\n', 3, "is not CSV"),
    ],
)
def test_a_table_that_is_wrong_gives_one_clear_line(shelf, text, row, problem):
    folder = shelf(text)
    (fault,) = [f for f in faults(folder) if problem in f.problem]
    assert fault.where == str(folder / "shelf.csv") + (f":{row}" if row else "")


def test_the_image_column_is_found_by_its_nearest_name(shelf):
    (fault,) = faults(shelf("Image,kind\n1.jpg,a\n"))
    assert fault.hint == 'Did you mean "Image"?'


def test_a_latin_1_table_says_how_to_save_it(shelf):
    (fault,) = faults(shelf("image,kind\n1.jpg,thé\n", encoding="latin-1"))
    assert "UTF-8" in fault.hint


@pytest.mark.parametrize("cell", ["../2.jpg", "sub/../../2.jpg", "/etc/hostname"])
def test_paths_that_lead_out_need_leave(shelf, cell):
    (fault,) = faults(shelf(f"image\n1.jpg\n{cell}\n"))
    assert fault.where.endswith(":3")
    assert f"{cell} leads out of the manifest's folder" in fault.problem
    assert "allow_outside: true" in fault.hint


def test_with_leave_they_are_read(shelf, tmp_path):
    shelf("")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_text(f"image\n../1.jpg\n{tmp_path / '2.jpg'}\n")
    images = read(tmp_path, "tables/a.csv", allow_outside=True)
    assert [p.resolve().name for p in images.images] == ["1.jpg", "2.jpg"]
    assert len(faults(tmp_path, "tables/a.csv")) == 2


def test_a_path_inside_may_be_absolute_or_go_up_and_down(shelf, tmp_path):
    images = read(shelf(f"image\n{tmp_path / '1.jpg'}\nsub/../2.jpg\n"))
    assert [p.resolve().name for p in images.images] == ["1.jpg", "2.jpg"]


def test_text_that_looks_like_a_file_stays_text_when_there_is_none(shelf):
    images = read(shelf("image,original\n1.jpg,DSC_0001.JPG\n2.jpg,../../x.png\n"))
    assert images.columns["original"] == ["DSC_0001.JPG", "../../x.png"]


def test_other_kinds_of_files_are_refused(shelf):
    (fault,) = faults(shelf("image\n1.jpg\n", "shelf.xlsx"), "shelf.xlsx")
    assert 'got a ".xlsx" file; expected a .csv or .parquet' in fault.problem
    (fault,) = faults(shelf(TABLE), "sub")
    assert "got a folder; expected a .csv" in fault.problem


def test_a_missing_table_offers_its_neighbour(shelf):
    (fault,) = faults(shelf(TABLE), "shelve.csv")
    assert fault.where == "data.shelf.path"
    assert fault.hint == 'Did you mean "shelf.csv"?'


def test_parquet_without_pyarrow_names_the_extra(shelf, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"polytask\[parquet\]"):
        read(shelf(b"PAR1", "shelf.parquet"), "shelf.parquet")


def parquet(folder, **columns):
    arrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow.parquet import write_table

    write_table(arrow.table(columns), folder / "shelf.parquet")
    return folder


def test_parquet_reads_like_csv(shelf):
    folder = parquet(
        shelf(TABLE),
        image=["1.jpg", "2.jpg", "sub/3.jpg"],
        split=["train", "test", "train"],
        product=["soap", None, "tea"],
        dented=[1, 0, None],
        weight=[0.5, float("nan"), 2.0],
        mask=["masks/1.png", "", None],
    )
    images, same = read(folder, "shelf.parquet"), read(folder)
    assert images.images == same.images
    assert images.columns["product"] == same.columns["product"]
    assert images.columns["mask"] == same.columns["mask"]
    assert images.columns["dented"] == [1, 0, None]
    assert images.columns["weight"] == [0.5, None, 2.0]
    for split in ("train", "test"):
        np.testing.assert_array_equal(images.splits[split], same.splits[split])
    assert images.place(2) == f"{folder / 'shelf.parquet'}:3"


def test_parquet_that_is_wrong_gives_one_clear_line(shelf, tmp_path):
    parquet(shelf(""), image=[1, 2])
    assert all("got int; expected a path" in f.problem for f in faults(tmp_path, "shelf.parquet"))
    raw = (tmp_path / "shelf.parquet").read_bytes()
    (tmp_path / "shelf.parquet").write_bytes(raw[:-20])
    (fault,) = faults(tmp_path, "shelf.parquet")
    assert "not a complete Parquet file" in fault.problem


def test_a_hundred_thousand_rows_read_in_seconds(shelf):
    images = read(shelf("image,kind\n" + "".join(f"1.jpg,{k % 7}\n" for k in range(100_000))))
    assert len(images) == 100_000
    assert Path(images.images[-1]).name == "1.jpg"

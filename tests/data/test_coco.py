"""COCO's JSON: boxes, classes, masks and splits as written, and every fault by its name."""

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check
from polytask.data.outlines import Region, draw, problem
from polytask.data.sources.coco import Coco
from polytask.errors import DataError

BCCD = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd" / "bccd.zip"
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]


def instance(image=1, category=3, box=(2, 1, 4, 4), shape=(SQUARE,), **more):
    return {
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "segmentation": [list(ring) for ring in shape],
        **more,
    }


def listed(number, size=(10, 8)):
    return {"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]}


def document(images, annotations, categories=CATEGORIES):
    return {
        "images": images,
        "annotations": [{"id": 100 + k, **one} for k, one in enumerate(annotations)],
        "categories": categories,
    }


def write(folder, found, name="annotations.json", beside=None):
    folder.mkdir(parents=True, exist_ok=True)
    (beside or folder).mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(found))
    for entry in found["images"]:
        shade = np.full((8, 10, 3), entry["id"], np.uint8)
        Image.fromarray(shade).save((beside or folder) / f"{entry['id']}.png")


def read(path, **options):
    return Coco(source="coco", path=path, **options).read("things", Path())


@pytest.fixture
def one_file(tmp_path):
    """Three images: a cat and a larger dog, nothing, and a crowd of dogs."""
    crowd = {"counts": [16, 16, 48], "size": [8, 10]}
    annotations = [
        instance(),
        instance(category=7, box=(0, 0, 10, 5), shape=([0, 0, 10, 0, 10, 5, 0, 5],)),
        {**instance(image=3, category=7, box=(2, 0, 2, 8)), "segmentation": crowd, "iscrowd": 1},
    ]
    write(tmp_path, document([listed(1), listed(2), listed(3)], annotations))
    return tmp_path


def test_what_is_written_is_what_is_read(one_file):
    images = read(one_file)
    assert images.columns["boxes"] == [[("cat", 2, 1, 6, 5), ("dog", 0, 0, 10, 5)], [], []]
    assert images.columns["class"] == ["dog", None, None]
    assert [images.columns[edge][0] for edge in ("x0", "y0", "x1", "y1")] == [0, 0, 10, 5]
    assert images.columns["cat"] == [1, 0, 0]
    assert images.columns["dog"] == [1, 0, 1]  # a crowd is one too
    assert images.classes["mask"] == ["background", "cat", "dog"]  # in the order of their ids
    assert images.splits == {}
    assert images.place(1).endswith("2.png")


def test_masks_lie_with_small_objects_on_top_and_crowds_ignored(one_file):
    both, nothing, crowd = (draw() for draw in read(one_file).columns["mask"])
    wanted = np.zeros((8, 10), int)
    wanted[0:5] = 2
    wanted[1:5, 2:6] = 1
    assert np.array_equal(both, wanted)
    assert not nothing.any()
    wanted[:] = 0
    wanted[:, 2:4] = 255  # runs go down the columns
    assert np.array_equal(crowd, wanted)


def test_some_categories_alone(one_file):
    images = read(one_file, classes=["dog"])
    assert images.columns["boxes"] == [[("dog", 0, 0, 10, 5)], [], []]
    assert set(np.unique(images.columns["mask"][0]())) == {0, 1}
    with pytest.raises(DataError, match='unknown category "cow"; expected one of cat, dog'):
        read(one_file, classes=["cow"])


@pytest.mark.parametrize("layout", ["published", "beside"])
@pytest.mark.parametrize("is_zipped", [False, True])
def test_splits_are_those_of_the_files(tmp_path, layout, is_zipped):
    root = tmp_path / "set"
    for split, number in (("train", 1), ("val", 2)):
        found = document([listed(number)], [instance(image=number)])
        if layout == "published":
            write(root / "annotations", found, f"instances_{split}2017.json", root / f"{split}2017")
            (root / "annotations" / f"captions_{split}2017.json").write_text("{}")
        else:
            found["images"][0]["file_name"] = "same.png"
            write(root / split, found, "_annotations.coco.json")
            (root / split / f"{number}.png").rename(root / split / "same.png")
    path = Path(shutil.make_archive(str(root), "zip", root)) if is_zipped else root
    images = read(path)
    assert {split: rows.tolist() for split, rows in images.splits.items()} == {
        "train": [0],
        "val": [1],
    }
    pictures = [Image.open(io.BytesIO(i) if is_zipped else i) for i in images.images]
    assert [picture.getpixel((0, 0))[0] for picture in pictures] == [1, 2]


def test_one_json_file_and_a_folder_of_images(tmp_path):
    write(tmp_path / "notes", document([listed(1)], [instance()]), "a.json", tmp_path / "pics")
    path = tmp_path / "notes" / "a.json"
    assert len(read(path, images=tmp_path / "pics")) == 1
    with pytest.raises(DataError, match="holds no image"):
        read(path)


BAD = {
    "image_id 9 is not in the file": instance(image=9),
    "category_id 1 is not in the file": instance(category=1),
    "the box 2, 1, 2, 5 is empty": instance(box=(2, 1, 0, 4)),
    "the box 2, 1, -1, 5 is inverted": instance(box=(2, 1, -3, 4)),
    "reaches outside its image of 10 × 8": instance(box=(2, 1, 20, 4)),
    "expected x, y, width, height": instance(box=(2, 1, 4)),
    "is not made of four numbers": instance(box=(2, "a", 4, 4)),
    "no list of three or more x, y": instance(shape=([1, 2, 3, 4],)),
    "cover 40 of 80 pixels": {**instance(), "segmentation": {"counts": [40], "size": [8, 10]}},
    "size [10, 8], the image": {**instance(), "segmentation": {"counts": [80], "size": [10, 8]}},
    "run lengths can't be read": {**instance(), "segmentation": {"counts": 3, "size": [8, 10]}},
    "neither outlines nor run lengths": {**instance(), "segmentation": {"a": 1}},
    "has no bbox": {"image_id": 1, "category_id": 3},
}


def test_every_wrong_annotation_is_told_with_its_id(tmp_path):
    write(tmp_path, document([listed(1)], BAD.values()))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    told = [str(fault) for fault in caught.value.faults]
    assert len(told) == len(BAD)
    for k, (fault, said) in enumerate(zip(told, BAD, strict=True)):
        assert f"annotation {100 + k}: " in fault
        assert said in fault


def test_wrong_boxes_can_be_left_out(tmp_path):
    write(tmp_path, document([listed(1)], [instance(box=(2, 1, 0, 4)), instance()]))
    assert read(tmp_path, bad_boxes="skip").columns["boxes"] == [[("cat", 2, 1, 6, 5)]]


def test_boxes_that_rounding_put_outside_are_cut(tmp_path):
    write(tmp_path, document([listed(1)], [instance(box=(-0.3, 1, 10.6, 4))]))
    assert read(tmp_path).columns["boxes"] == [[("cat", 0, 1, 10, 5)]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"images": [', "is no complete JSON"),
        ("[" * 100_000, "is no complete JSON"),
        ('{"images": []}', "holds no JSON file with images, annotations, categories"),
        ('{"images": 3, "annotations": [], "categories": []}', "images is a int"),
        ('{"images": [], "annotations": [], "categories": []}', "has no category"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "an id and a name"),
        (
            '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], '
            '"categories": [{"id": 1, "name": "a"}]}',
            r"images\[0\]: got .*expected id, file_name, and width and height",
        ),
    ],
)
def test_a_file_that_is_no_coco_is_told(tmp_path, text, said):
    write(tmp_path, document([listed(1)], []))
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path)


def test_images_that_are_missing_or_lead_out_are_told(tmp_path):
    found = document([listed(1), listed(2), listed(3)], [])
    write(tmp_path / "set", found)
    (tmp_path / "set" / "2.png").unlink()
    (tmp_path / "set" / "3.png").rename(tmp_path / "3.png")
    found["images"][2]["file_name"] = "../3.png"
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(found))
    with pytest.raises(DataError) as caught:
        read(tmp_path / "set")
    told = [str(fault) for fault in caught.value.faults]
    assert ["2.png is listed" in told[0], "../3.png is listed" in told[1]] == [True, True]


def test_files_without_a_split_beside_others_are_told(tmp_path):
    write(tmp_path / "train", document([listed(1)], []))
    write(tmp_path / "latest", document([listed(2)], []))
    with pytest.raises(DataError, match=r"latest.*belongs to no split"):
        read(tmp_path)


def text_of(runs):
    """Run lengths as COCO's text: a reference written from the format's description."""
    text = ""
    for k, run in enumerate(runs):
        number = run - (runs[k - 2] if k > 2 else 0)
        while True:
            part, number = number & 31, number >> 5
            is_last = number == (-1 if part & 16 else 0)
            text += chr((part if is_last else part | 32) + 48)
            if is_last:
                break
    return text


@given(st.data(), st.integers(1, 40), st.integers(1, 40))
def test_run_lengths_and_their_text_give_the_mask_back(data, width, height):
    pixels = data.draw(st.binary(min_size=width * height, max_size=width * height))
    mask = (np.frombuffer(pixels, np.uint8).reshape(height, width) > 127).astype(np.uint8)
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    runs = [0, *runs] if flat[0] else runs
    for counts in (runs, text_of(runs)):
        shape = {"counts": counts, "size": [height, width]}
        assert problem(shape, width, height) == ""
        assert np.array_equal(draw([Region(1, 1, shape)], width, height), mask)


@pytest.mark.skipif(not BCCD.exists(), reason="no blood cells at hand")
def test_real_blood_cells_written_as_coco(tmp_path):
    """364 photographs with 4,886 boxes survive the way through the format, to the pixel."""
    with zipfile.ZipFile(BCCD) as archive:
        archive.extractall(tmp_path)
    texts = {n: (tmp_path / f"{n}.csv").read_text() for n in ("index", "boxes")}
    tables = {n: list(csv.DictReader(io.StringIO(text))) for n, text in texts.items()}
    names = sorted({row["class"] for row in tables["boxes"]})
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val", "test"):
        rows = [row for row in tables["index"] if row["split"] == split]
        number = {row["name"]: k for k, row in enumerate(rows)}
        boxes = [row for row in tables["boxes"] if row["name"] in number]
        found = document(
            [{**listed(k, (192, 144)), "file_name": f"{name}.jpg"} for name, k in number.items()],
            [
                instance(
                    number[row["name"]],
                    names.index(row["class"]),
                    (x0, y0, x1 - x0, y1 - y0),
                    shape=(),
                )
                for row in boxes
                for x0, y0, x1, y1 in [[float(row[e]) for e in ("x0", "y0", "x1", "y1")]]
            ],
            [{"id": k, "name": name} for k, name in enumerate(names)],
        )
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(found))
    (tmp_path / "cells.yaml").write_text(
        "data:\n  cells: {source: coco, path: ., size: 64}\n"
        "tasks:\n  cell: {kind: detection, data: cells}\n"
        "  there: {kind: multilabel, data: cells, label: [Platelets, WBC]}\n"
        "  where: {kind: box, data: cells}\n"
    )
    report = check(read_config(tmp_path / "cells.yaml"))
    assert report.faults == []
    cells = report.data["cells"]
    assert cells.splits == {"train": 205, "val": 87, "test": 72}
    images = read(tmp_path)
    assert sum(map(len, images.columns["boxes"])) == len(tables["boxes"]) == 4886

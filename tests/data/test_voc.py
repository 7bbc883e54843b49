"""PASCAL VOC's folders: boxes, masks and lists as they are written; and every fault by its name."""

import csv
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check
from polytask.data.sources.voc import CLASSES, Voc
from polytask.errors import DataError

PEOPLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "pennfudan" / "pennfudan.zip"


def thing(name, box, difficult=0):
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    bndbox = "".join(f"<{edge}>{at}</{edge}>" for edge, at in edges)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{bndbox}</bndbox></object>"
    )


def annotation(stem, *things, size=(10, 8)):
    width, height = size
    return (
        f"<annotation><filename>{stem}.jpg</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"{''.join(things)}</annotation>"
    )


def write(root, annotations, lists=None, masks=(), images="JPEGImages"):
    for folder in ("Annotations", images, "ImageSets/Main", "SegmentationClass"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for k, (stem, text) in enumerate(annotations.items()):
        (root / "Annotations" / f"{stem}.xml").write_text(text)
        Image.new("RGB", (10, 8), (k, k, k)).save(root / images / f"{stem}.jpg")
    for stem in masks:
        picture = Image.new("P", (10, 8), 15)
        picture.putpalette([k % 256 for k in range(768)])
        picture.putpixel((0, 0), 255)
        picture.save(root / "SegmentationClass" / f"{stem}.png")
    for name, stems in (lists or {}).items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return root


def read(path, **options):
    return Voc(source="voc", path=path, **options).read("things", Path())


THREE = {
    "a": annotation("a", thing("person", (3, 2, 6, 5)), thing("cat", (1, 1, 10, 8))),
    "b": annotation("b", thing("person", (2, 2, 4, 4), difficult=1)),
    "c": annotation("c"),
}


@pytest.mark.parametrize("is_zipped", [False, True])
def test_what_is_written_is_what_is_read(tmp_path, is_zipped):
    root = write(tmp_path / "VOCdevkit" / "VOC2012", THREE, {"train": "ab", "test": "c"}, masks="a")
    path = root.parent
    if is_zipped:
        path = Path(shutil.make_archive(str(tmp_path / "voc"), "zip", tmp_path, "VOCdevkit"))
    images = read(path)
    # VOC counts pixels from 1, and the last belongs to the object.
    assert images.columns["boxes"] == [[("person", 2, 1, 6, 5), ("cat", 0, 0, 10, 8)], [], []]
    assert images.columns["class"] == ["cat", None, None]
    assert images.columns["person"] == [1, None, 0]  # a difficult object leaves it open
    assert images.columns["cat"] == [1, 0, 0]
    assert images.classes["boxes"] == ["cat", "person"]
    assert images.classes["mask"] == ["background", *CLASSES]
    assert [mask is None for mask in images.columns["mask"]] == [False, True, True]
    assert {split: rows.tolist() for split, rows in images.splits.items()} == {
        "train": [0, 1],
        "test": [2],
    }


def test_difficult_objects_on_request(tmp_path):
    images = read(write(tmp_path, THREE), difficult=True)
    assert images.columns["boxes"][1] == [("person", 1, 1, 4, 4)]
    assert images.columns["person"] == [1, 1, 0]


def test_edges_that_count_from_0_are_seen(tmp_path):
    both = {"a": annotation("a", thing("cat", (0, 2, 6, 5)), thing("cat", (1, 1, 4, 4)))}
    assert read(write(tmp_path, both)).columns["boxes"] == [
        [("cat", 0, 2, 6, 5), ("cat", 1, 1, 4, 4)]
    ]
    write(tmp_path, {"a": annotation("a", thing("cat", (-1, 2, 6, 5)))})
    with pytest.raises(DataError, match=r"Annotations/a\.xml: cat: the box -2, 1"):
        read(tmp_path, first_pixel=1)


def test_lists_of_several_years_are_one(tmp_path):
    write(tmp_path / "VOC2007", {"1": THREE["a"]}, {"trainval": "1"})
    write(tmp_path / "VOC2012", {"2": THREE["b"], "3": THREE["c"]}, {"trainval": "2"})
    images = read(tmp_path)
    assert len(images) == 2  # the third is on no list
    assert images.splits["train"].tolist() == [0, 1]


def test_lists_can_be_chosen(tmp_path):
    root = write(tmp_path, THREE, {"train": "a", "val": "bc", "trainval": "abc"})
    assert {s: r.tolist() for s, r in read(root).splits.items()} == {"train": [0], "val": [1, 2]}
    chosen = read(root, lists={"train": "train", "test": "val"}).splits
    assert {s: r.tolist() for s, r in chosen.items()} == {"train": [0], "test": [1, 2]}
    with pytest.raises(DataError, match=r'unknown list "vla".*Did you mean "val"'):
        read(root, lists={"train": "train", "test": "vla"})
    with pytest.raises(DataError, match="a is in the lists of train and test"):
        read(root, lists={"train": "trainval", "test": "train"})
    with pytest.raises(DataError, match=r'unknown folder "main".*Did you mean "Main"'):
        read(root, sets="main")


def test_images_may_lie_in_another_folder(tmp_path):
    assert len(read(write(tmp_path, THREE, images="images"))) == 3


def test_a_list_of_unknown_names_is_told(tmp_path):
    with pytest.raises(DataError, match="x is listed, but has no annotation"):
        read(write(tmp_path, THREE, {"train": "ax"}))


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;">]>'
    "<annotation><filename>&y;</filename></annotation>"
)
BAD = {
    "document type or an entity": BOMB,
    "is no complete XML": annotation("a")[:-5],
    "holds <html>; expected <annotation>": "<html/>",
    "object 1 lacks a name": annotation("a", thing("", (1, 1, 3, 3))),
    "object 2 lacks a box": annotation(
        "a", thing("cat", (1, 1, 3, 3)), thing("cat", (1, "one", 3, 3))
    ),
    "cat: the box 5, 0, 3, 3 is inverted": annotation("a", thing("cat", (6, 1, 3, 3))),
    "cat: the box 3, 0, 3, 3 is empty": annotation("a", thing("cat", (4, 1, 3, 3))),
    "reaches outside its image of 10 × 8": annotation("a", thing("cat", (4, 1, 30, 3))),
    "is not made of four numbers": annotation("a", thing("cat", (4, 1, "nan", 3))),
}


@pytest.mark.parametrize("said", BAD)
def test_every_wrong_annotation_is_told_with_its_file(tmp_path, said):
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, {"a": BAD[said]}))
    (fault,) = caught.value.faults
    assert fault.where.endswith("Annotations/a.xml")
    assert said in fault.problem


def test_wrong_boxes_can_be_left_out(tmp_path):
    wrong = {"a": annotation("a", thing("cat", (6, 1, 3, 3)), thing("cat", (1, 1, 3, 3)))}
    assert read(write(tmp_path, wrong), bad_boxes="skip").columns["boxes"] == [
        [("cat", 0, 0, 3, 3)]
    ]


def test_what_is_missing_is_told(tmp_path):
    root = write(tmp_path, THREE)
    (root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"Annotations/b\.xml: there is no image b\.jpg"):
        read(root)
    shutil.rmtree(root / "Annotations")
    with pytest.raises(DataError, match="no XML file in a folder Annotations"):
        read(root)


@pytest.mark.skipif(not PEOPLE.exists(), reason="no pedestrians at hand")
def test_real_pedestrians_written_as_voc(tmp_path):
    """170 photographs with boxes and masks survive the way through the format."""
    with zipfile.ZipFile(PEOPLE) as archive:
        archive.extractall(tmp_path)
    rows, boxes = (
        list(csv.DictReader(io.StringIO((tmp_path / f"{name}.csv").read_text())))
        for name in ("index", "boxes")
    )
    for folder in ("Annotations", "ImageSets/Main", "SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    for row in rows:
        with Image.open(tmp_path / "images" / f"{row['name']}.jpg") as picture:
            size = picture.size
        found = [b for b in boxes if b["name"] == row["name"]]
        edges = [[float(b[edge]) for edge in ("x0", "y0", "x1", "y1")] for b in found]
        things = [thing("person", (x0 + 1, y0 + 1, x1, y1)) for x0, y0, x1, y1 in edges]
        text = annotation(row["name"], *things, size=size)
        (tmp_path / "Annotations" / f"{row['name']}.xml").write_text(text)
        with Image.open(tmp_path / "masks" / f"{row['name']}.png") as picture:
            person = np.where(np.asarray(picture) > 0, 15, 0).astype(np.uint8)
        Image.fromarray(person).save(tmp_path / "SegmentationClass" / f"{row['name']}.png")
    shutil.rmtree(tmp_path / "masks")
    for split in ("train", "test"):
        names = [row["name"] for row in rows if row["split"] == split]
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    (tmp_path / "people.yaml").write_text(
        "data:\n  people: {source: voc, path: ., size: 64}\n"
        "tasks:\n  people: {kind: detection, data: people}\n"
        "  largest: {kind: box, data: people}\n"
        "  outline: {kind: segmentation, data: people, label: mask}\n"
    )
    report = check(read_config(tmp_path / "people.yaml"))
    assert report.faults == []
    assert report.data["people"].splits["test"] == 34
    assert sum(map(len, read(tmp_path).columns["boxes"])) == len(boxes) == 423

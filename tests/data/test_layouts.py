"""Published folder layouts: what the paths say becomes columns; what does not fit is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check
from polytask.data.sources.layouts import CHARACTERS, Layout
from polytask.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COIL = SHARED / "coil20" / "coil20.npz"
LETTERS = SHARED / "chars74k_lite" / "chars74k_lite.npz"


def write(root, *paths):
    for k, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(root / path)
    return root


def load(source, path, **options):
    return Layout(source=source, path=path, **options).load("things", Path())


@pytest.mark.parametrize("is_zipped", [False, True])
def test_office31(tmp_path, is_zipped):
    root = write(
        tmp_path / "office",
        "amazon/images/back_pack/frame_0001.jpg",
        "dslr/images/back_pack/frame_0001.jpg",
        "webcam/images/bike/frame_0001.jpg",
    )
    path = Path(shutil.make_archive(str(root), "zip", root)) if is_zipped else root
    images = load("office31", path)
    assert images.columns == {
        "domain": ["amazon", "dslr", "webcam"],
        "class": ["back_pack", "back_pack", "bike"],
    }
    part = load("office31", path, only={"domain": ["dslr", "webcam"]})
    assert part.columns["class"] == ["back_pack", "bike"]
    assert part.default_label == "class"


def test_office_home(tmp_path):
    write(tmp_path, "Art/Alarm_Clock/1.jpg", "Real World/Alarm_Clock/1.jpg", "Product/Bed/1.jpg")
    images = load("office_home", tmp_path)
    assert images.columns["domain"] == ["Art", "Product", "Real_World"]
    assert images.columns["class"] == ["Alarm_Clock", "Bed", "Alarm_Clock"]


def test_coil20(tmp_path):
    write(
        tmp_path,
        "coil-20-proc/obj1__0.png",
        "coil-20-proc/obj1__71.png",
        "coil-20-proc/obj20__3.png",
    )
    assert load("coil20", tmp_path).columns == {"class": ["1", "1", "20"], "angle": [0, 355, 15]}


def test_chars74k(tmp_path):
    write(
        tmp_path,
        "English/Img/GoodImg/Bmp/Sample001/img001-00001.png",
        "English/Img/GoodImg/Msk/Sample001/img001-00001.png",
        "English/Hnd/Img/Sample011/img011-001.png",
        "English/Fnt/Sample062/img062-00001.png",
    )
    images = load("chars74k", tmp_path)
    found = zip(*images.columns.values(), strict=True)
    assert sorted(found) == [
        ("0", "digit", "GoodImg"),
        ("A", "upper", "Hnd"),
        ("z", "lower", "Fnt"),
    ]
    upper = load("chars74k", tmp_path, only={"case": ["upper"]})
    assert upper.columns["class"] == ["A"]


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("office31", "amazn/images/bike/1.jpg"),
        ("office_home", "Art/1.jpg"),
        ("coil20", "obj1_0.png"),
        ("chars74k", "Sample063/1.png"),
        ("chars74k", "Sample000/1.png"),
    ],
)
def test_files_out_of_place_are_told(tmp_path, source, path):
    with pytest.raises(DataError, match="is not in place; expected"):
        load(source, write(tmp_path, path))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the image sets beside the repository")
def test_real_turntable_and_real_letters(tmp_path):
    """Objects with their angle as a number, and letters in pairs, pass the check."""
    coil, letters = np.load(COIL), np.load(LETTERS)
    for image, thing, angle in zip(coil["image"], coil["object"], coil["angle"], strict=True):
        path = tmp_path / "coil" / f"obj{thing}__{int(angle) // 5}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    for k, (image, label) in enumerate(zip(letters["image"], letters["label"], strict=True)):
        if label < 4:
            number = CHARACTERS.index("abcd"[label]) + 1
            path = tmp_path / "chars" / f"Sample{number:03}" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    (tmp_path / "both.yaml").write_text(
        "data:\n  coil: {source: coil20, path: coil, size: 20}\n"
        "  ab: {source: chars74k, path: chars, only: {class: [a, b]}}\n"
        "  cd: {source: chars74k, path: chars, only: {class: [c, d]}}\n"
        "tasks:\n  thing: {kind: classification, data: coil}\n"
        "  angle: {kind: regression, data: coil, label: angle}\n"
        "  ab: {kind: classification, data: ab}\n  cd: {kind: classification, data: cd}\n"
    )
    report = check(read_config(tmp_path / "both.yaml"))
    assert report.faults == []
    assert report.data["coil"].images == 1440
    assert len(report.data["coil"].tasks["thing"].classes) == 20
    assert list(report.data["ab"].tasks["ab"].classes) == ["a", "b"]

"""Folders and archives of images: layouts, order, and everything that can be wrong with them."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.data.decode import read_image
from polytask.data.sources.folder import Folder
from polytask.data.sources.unlabelled import Unlabelled
from polytask.errors import DataError
from polytask.tasks.classification import Classification, ClassificationOptions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def grow(root, *names):
    """Files that are images by name; reading a folder opens none of them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bytes of " + name.encode())
    return root


def archive(path, *names, **options):
    with zipfile.ZipFile(path, "w", **options) as out:
        for name in names:
            out.writestr(name, b"bytes of " + name.encode())
    return path


def read(path, folder=Path(), source=Folder):
    return source(source=source.__name__.lower(), path=path).read("pets", folder)


def faults(path, source=Folder):
    with pytest.raises(DataError) as caught:
        read(path, source=source)
    return caught.value.faults


CLASSES = ["cat/1.jpg", "cat/2.JPG", "dog/1.png", "dog/deep/er/2.webp"]
SPLIT = ["test/dog/3.jpg", "train/cat/1.jpg", "train/dog/2.jpg", "val/cat/4.jpg"]


def test_a_folder_is_a_class(tmp_path):
    images = read("pets", grow(tmp_path, *(f"pets/{name}" for name in CLASSES)))
    assert images.columns == {"class": ["cat", "cat", "dog", "dog"]}
    assert images.default_label == "class"
    assert images.splits == {}
    assert images.images == [tmp_path / "pets" / name for name in CLASSES]
    assert images.place(2) == str(tmp_path / "pets" / "dog" / "1.png")


def test_splits_come_from_the_outer_folders(tmp_path):
    images = read(grow(tmp_path, *SPLIT))
    assert images.columns == {"class": ["dog", "cat", "dog", "cat"]}
    assert {split: rows.tolist() for split, rows in images.splits.items()} == {
        "train": [1, 2],
        "val": [3],
        "test": [0],
    }


def test_a_lone_train_folder_leaves_the_other_splits_to_be_made(tmp_path):
    images = read(grow(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg"))
    assert list(images.splits) == ["train"]
    assert images.columns["class"] == ["cat", "dog"]


def test_a_class_may_be_called_train(tmp_path):
    images = read(grow(tmp_path, "car/1.jpg", "train/2.jpg"))
    assert images.columns["class"] == ["car", "train"]
    assert images.splits == {}


def test_numbered_classes_are_put_in_numeric_order(tmp_path):
    images = read(grow(tmp_path, *(f"{k}/a.jpg" for k in (0, 1, 2, 10))))
    task = Classification("t", ClassificationOptions(kind="classification", data="pets"))
    assert task.read_labels(images).value.tolist() == [0, 1, 3, 2]
    assert task.classes == ["0", "1", "2", "10"]


@pytest.mark.parametrize("names", [CLASSES, SPLIT])
def test_an_archive_reads_like_its_folder(tmp_path, names):
    folder = read(grow(tmp_path / "folder", *names))
    for prefix in ("", "pets/", "a/b/"):  # archives are often wrapped in folders
        path = archive(tmp_path / "pets.zip", *(prefix + name for name in names))
        packed = read(path)
        assert packed.columns == folder.columns
        assert packed.splits.keys() == folder.splits.keys()
        assert packed.images == [
            b"bytes of " + (prefix + str(p.relative_to(tmp_path / "folder"))).encode()
            for p in folder.images
        ]
        assert packed.place(0) == f"{path}:{prefix}{names[0]}"


def test_a_wrapped_folder_reads_like_its_contents(tmp_path):
    assert read(grow(tmp_path, *(f"outer/{name}" for name in CLASSES))).columns == {
        "class": ["cat", "cat", "dog", "dog"]
    }


def test_hidden_and_other_files_are_passed_over(tmp_path):
    more = ["cat/notes.txt", "cat/.hidden.jpg", ".cache/x.jpg", "__MACOSX/cat/._1.jpg", "index.csv"]
    grow(tmp_path / "folder", *CLASSES, *more)
    assert len(read(tmp_path / "folder")) == 4
    assert len(read(archive(tmp_path / "a.zip", *CLASSES, *more))) == 4


def test_linked_folders_are_read_once_even_in_a_circle(tmp_path):
    grow(tmp_path / "store", "tabby/1.jpg")
    grow(tmp_path / "pets", "dog/1.jpg")
    (tmp_path / "pets" / "cat").symlink_to(tmp_path / "store" / "tabby")
    (tmp_path / "pets" / "dog" / "again").symlink_to(tmp_path / "pets")
    assert read(tmp_path / "pets").columns["class"] == ["cat", "dog"]


def test_a_missing_folder_offers_its_neighbour(tmp_path):
    grow(tmp_path, "pets/cat/1.jpg")
    with pytest.raises(DataError) as caught:
        read("pest", tmp_path)
    (fault,) = caught.value.faults
    assert fault.where == "data.pets.path"
    assert str(tmp_path / "pest") in fault.problem
    assert fault.hint == 'Did you mean "pets"?'


@pytest.mark.parametrize("path", ["nowhere/at/all", "x" * 5000, "nul\0byte"])
def test_paths_that_cannot_be_are_only_missing(tmp_path, path):
    (fault,) = faults(tmp_path / path)
    assert "does not exist" in fault.problem


def test_a_folder_that_cannot_be_opened_is_named(tmp_path):
    grow(tmp_path, *CLASSES)
    (tmp_path / "dog").chmod(0)
    if os.access(tmp_path / "dog", os.R_OK):
        pytest.skip("this user may open every folder")
    (fault,) = faults(tmp_path)
    (tmp_path / "dog").chmod(0o700)
    assert fault.where == str(tmp_path / "dog")
    assert "can't be opened" in fault.problem


def test_images_outside_of_a_class_are_all_named(tmp_path):
    found = faults(grow(tmp_path, *CLASSES, "stray.jpg", "other.jpg"))
    assert [Path(f.where).name for f in found] == ["other.jpg", "stray.jpg"]
    assert "<class>/*.jpg" in found[0].problem


def test_split_folders_without_classes_are_no_classes(tmp_path):
    found = faults(grow(tmp_path, "train/1.jpg", "test/2.jpg"))
    assert all("belongs to no class" in f.problem for f in found)


def test_an_unknown_split_is_named_with_the_nearest(tmp_path):
    (fault,) = faults(grow(tmp_path, *SPLIT[:3], "vall/cat/1.jpg"))
    assert fault.where == str(tmp_path / "vall")
    assert "train, val, test" in fault.problem
    assert fault.hint == 'Did you mean "val"?'


def test_a_class_folder_without_images_is_named(tmp_path):
    (fault,) = faults(grow(tmp_path, *CLASSES, "owl/readme.txt"))
    assert fault.where == str(tmp_path / "owl")
    (fault,) = faults(grow(tmp_path / "split", *SPLIT, "val/owl/readme.txt"))
    assert fault.where == str(tmp_path / "split" / "val" / "owl")


def test_one_class_is_not_enough(tmp_path):
    (fault,) = faults(grow(tmp_path, "cat/1.jpg", "cat/2.jpg"))
    assert "one class, cat" in fault.problem
    assert "unlabelled" in fault.hint


@pytest.mark.parametrize("source", [Folder, Unlabelled])
def test_a_folder_without_images_says_so(tmp_path, source):
    (fault,) = faults(grow(tmp_path, "cat/readme.txt"), source)
    assert fault.where == str(tmp_path)
    assert "no image" in fault.problem


def test_long_lists_of_faults_are_cut(tmp_path):
    found = faults(grow(tmp_path, *CLASSES, *(f"{k}.jpg" for k in range(50))))
    assert len(found) == 21
    assert "30 more" in found[-1].problem


@pytest.mark.parametrize(
    "member", ["../evil/1.jpg", "cat/../../1.jpg", "/etc/1.jpg", "..\\x\\1.jpg"]
)
def test_archives_that_lead_out_are_refused(tmp_path, member):
    (fault,) = faults(archive(tmp_path / "a.zip", *CLASSES, member))
    assert "leads out of the archive" in fault.problem
    assert member.replace("\\", "/") in fault.where.replace("\\", "/")


def test_a_damaged_member_is_named(tmp_path):
    path = archive(tmp_path / "a.zip", *CLASSES)
    path.write_bytes(path.read_bytes().replace(b"bytes of dog/1.png", b"bytes of dog/l.png"))
    (fault,) = faults(path)
    assert fault.where == f"{path}:dog/1.png"
    assert "CRC" in fault.problem


def test_an_encrypted_member_is_named(tmp_path):
    path = archive(tmp_path / "a.zip", *CLASSES)
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1  # the flag "encrypted" of the first member
    path.write_bytes(raw)
    (fault,) = faults(path)
    assert fault.where == f"{path}:cat/1.jpg"
    assert "encrypted" in fault.problem


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path):
    path = archive(tmp_path / "a.zip", *CLASSES)
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = (0xFFFFFFF0).to_bytes(4, "little")  # the size it claims
    path.write_bytes(raw)
    (fault,) = faults(path)
    assert "more than 4 GiB" in fault.problem
    assert "give the folder" in fault.hint


def test_what_is_no_archive_says_so(tmp_path):
    path = archive(tmp_path / "a.zip", *CLASSES)
    path.write_bytes(path.read_bytes()[:-30])
    (fault,) = faults(path)
    assert "neither a folder nor a complete zip" in fault.problem


def test_unlabelled_images_are_taken_from_everywhere(tmp_path):
    images = read(grow(tmp_path, "1.jpg", "a/2.png", "a/b/3.gif", "a/readme.md"), source=Unlabelled)
    assert [p.name for p in images.images] == ["1.jpg", "2.png", "3.gif"]
    assert images.columns == {}
    assert images.splits == {}
    packed = read(archive(tmp_path / "a.zip", "1.jpg", "a/2.png"), source=Unlabelled)
    assert packed.images == [b"bytes of 1.jpg", b"bytes of a/2.png"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the image sets beside the repository")
def test_photographs_from_an_archive_equal_those_unpacked(tmp_path):
    with zipfile.ZipFile(SHARED / "cifar10" / "cifar10.zip") as source:
        names = [n for n in source.namelist() if n.endswith(("0.jpg", "1.jpg")) and "/00" in n]
        names = [n for n in names if n.split("/")[1] in ("cat", "dog")]
        source.extractall(tmp_path / "cifar", names)
        with zipfile.ZipFile(tmp_path / "cifar.zip", "w") as out:
            for name in names:
                out.writestr(name, source.read(name))
    unpacked, packed = read(tmp_path / "cifar"), read(tmp_path / "cifar.zip")
    assert packed.columns == unpacked.columns
    assert {s: len(rows) for s, rows in packed.splits.items()} == {"train": 40, "test": 40}
    for i in range(len(packed)):
        np.testing.assert_array_equal(
            read_image(packed.images[i], packed.place(i)),
            read_image(unpacked.images[i], unpacked.place(i)),
        )
    assert read_image(packed.images[0], "").shape == (32, 32, 3)


def test_pictures_in_an_archive_decode(tmp_path):
    grow(tmp_path, "in/cat/.keep", "in/dog/.keep")
    for k, name in enumerate(("cat", "dog")):
        Image.new("RGB", (4, 3), (50 * k, 0, 0)).save(tmp_path / "in" / name / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for path in (tmp_path / "in").rglob("*.png"):
            out.write(path, path.relative_to(tmp_path / "in"))
    images = read(tmp_path / "a.zip")
    assert [int(read_image(i, "")[0, 0, 0]) for i in images.images] == [0, 50]


def test_only_some_classes(tmp_path):
    for name in ("cat", "dog", "owl"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (4, 4), (40 * i, 0, 0)).save(tmp_path / name / f"{i}.png")
    found = Folder(source="folder", path=tmp_path, classes=["owl", "cat"]).read("pets", tmp_path)
    assert sorted(found.columns["class"]) == ["cat", "cat", "owl", "owl"]
    assert all("dog" not in place for place in found.places)
    with pytest.raises(DataError, match=r'unknown class "owls".*Did you mean "owl"'):
        Folder(source="folder", path=tmp_path, classes=["cat", "owls"]).read("pets", tmp_path)

"""Sets that torchvision reads, on small files written here in the published formats."""

import bz2
import csv
import hashlib
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from polytask import registry
from polytask.data.source import Source
from polytask.data.sources.cifar import ABOVE, COARSE
from polytask.errors import DataError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10" / "cifar10.zip"
SETS = [
    *("cifar10", "cifar100", "stl10", "svhn", "mnist", "fashion_mnist", "kmnist", "usps"),
    *("emnist", "caltech101", "places365", "imagenet", "celeba"),
]
RNG = np.random.default_rng(0)


def read(source, path, **options):
    model = registry.load("sources", source, Source)
    return model(source=source, path=path, **options).read("things", Path())


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def rows(splits):
    return {split: index.tolist() for split, index in splits.items()}


def write_cifar(monkeypatch, folder, kind, parts, label, names):
    """Batches as published: rows of 3 × 1024 bytes, and labels; the checksums are theirs."""
    folder = folder / kind.base_folder
    folder.mkdir(parents=True)
    lists = {"train_list": [], "test_list": []}
    for file, key, images, labels in parts:
        batch = {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), label: labels}
        (folder / file).write_bytes(pickle.dumps(batch))
        lists[key].append([file, md5(folder / file)])
    meta = folder / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: names}))
    for key, found in lists.items():
        monkeypatch.setattr(kind, key, found)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})


@pytest.mark.skipif(not REAL.exists(), reason="no photographs at hand")
def test_cifar10_of_real_photographs(tmp_path, monkeypatch):
    with zipfile.ZipFile(REAL) as archive:
        table = list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"))))
        listed = {s: [r for r in table if r["split"] == s][::97] for s in ("train", "test")}
        images = {
            s: np.stack([np.asarray(Image.open(archive.open(r["file"]))) for r in found])
            for s, found in listed.items()
        }
    names = [r["class"] for r in sorted(table, key=lambda r: int(r["label"]))]
    names = list(dict.fromkeys(names))
    labels = {s: [int(r["label"]) for r in found] for s, found in listed.items()}
    half = len(labels["train"]) // 2
    parts = [
        ("data_batch_1", "train_list", images["train"][:half], labels["train"][:half]),
        ("data_batch_2", "train_list", images["train"][half:], labels["train"][half:]),
        ("test_batch", "test_list", images["test"], labels["test"]),
    ]
    write_cifar(monkeypatch, tmp_path, datasets.CIFAR10, parts, "labels", names)
    found = read("cifar10", tmp_path)
    assert np.array_equal(found.images, np.concatenate([images["train"], images["test"]]))
    assert found.columns["class"] == [r["class"] for s in listed for r in listed[s]]
    assert found.classes["class"] == names
    assert len(found.splits["train"]) == len(labels["train"])


class Bomb:
    def __reduce__(self):
        return (open, ("run_by_a_pickle", "w"))


def test_a_pickle_that_is_not_the_published_one_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file, _ in [*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list]:
        (folder / file).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="not found or corrupted; expected cifar-10-batches-py/"):
        read("cifar10", tmp_path)
    assert not (tmp_path / "run_by_a_pickle").exists()


def test_cifar100_has_three_levels(tmp_path, monkeypatch):
    fine = sorted(ABOVE)
    images = {"train": pixels(100, 32, 32, 3), "test": pixels(3, 32, 32, 3)}
    parts = [
        ("train", "train_list", images["train"], list(range(100))),
        ("test", "test_list", images["test"], [0, 1, 99]),
    ]
    write_cifar(monkeypatch, tmp_path, datasets.CIFAR100, parts, "fine_labels", fine)
    found = read("cifar100", tmp_path)
    assert found.classes["class"] == fine
    columns = zip(*(found.columns[c] for c in ("class", "coarse", "kingdom")), strict=True)
    last = list(columns)[-3:]
    assert last == [
        ("apple", "fruit_and_vegetables", "plants"),
        ("aquarium_fish", "fish", "animals"),
        ("worm", "non-insect_invertebrates", "animals"),
    ]
    train = [found.columns["kingdom"][i] for i in found.splits["train"]]
    assert [train.count(k) for k in ("animals", "things", "plants")] == [50, 35, 15]


def test_the_coarse_classes_are_the_published_ones():
    """The 100 coarse numbers as they stand in the set's own training file, in the order of the
    fine classes."""
    published = [
        *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
        *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18),
        *(10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1),
        *(16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14),
        13,
    ]
    assert [list(COARSE).index(ABOVE[fine][0]) for fine in sorted(ABOVE)] == published
    assert list(COARSE) == sorted(COARSE)


@pytest.mark.parametrize("unlabelled", [False, True])
def test_stl10_and_its_unlabelled_part(tmp_path, monkeypatch, unlabelled):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = {
        part: pixels(n, 96, 96, 3) for part, n in (("train", 3), ("test", 2), ("unlabeled", 2))
    }
    for part, found in images.items():  # columns first, channel by channel
        (folder / f"{part}_X.bin").write_bytes(found.transpose(0, 3, 2, 1).tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 2]))
    (folder / "test_y.bin").write_bytes(bytes([3, 3]))
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (folder / "class_names.txt").write_text("\n".join(names))
    for key in ("train_list", "test_list"):
        listed = [[file, md5(folder / file)] for file, _ in getattr(datasets.STL10, key)]
        monkeypatch.setattr(datasets.STL10, key, listed)
    found = read("stl10", tmp_path, unlabelled=unlabelled)
    blank = [None, None] if unlabelled else []
    assert found.columns["class"] == ["airplane", "truck", "bird", *blank, "car", "car"]
    middle = [images["unlabeled"]] if unlabelled else []
    assert np.array_equal(found.images, np.concatenate([images["train"], *middle, images["test"]]))


def test_svhn(tmp_path, monkeypatch):
    images = {part: pixels(n, 32, 32, 3) for part, n in (("train", 3), ("test", 2), ("extra", 2))}
    labels = {"train": [10, 1, 9], "test": [5, 5], "extra": [2, 10]}  # 10 is the digit 0
    listed = {}
    for part, found in images.items():
        file = f"{part}_32x32.mat"
        y = np.array(labels[part])[:, None]
        scipy.io.savemat(tmp_path / file, {"X": found.transpose(1, 2, 3, 0), "y": y})
        listed[part] = ["", file, md5(tmp_path / file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    found = read("svhn", tmp_path)
    assert found.columns["class"] == ["0", "1", "9", "5", "5"]
    assert np.array_equal(found.images, np.concatenate([images["train"], images["test"]]))
    more = read("svhn", tmp_path, extra=True)
    assert more.columns["class"] == ["0", "1", "9", "2", "0", "5", "5"]
    assert rows(more.splits) == {"train": [0, 1, 2, 3, 4], "test": [5, 6]}


def write_idx(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "kmnist"])
def test_the_mnist_family(tmp_path, source):
    kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}[source]
    images = {"train": pixels(3, 28, 28), "t10k": pixels(2, 28, 28)}
    labels = {"train": [0, 9, 1], "t10k": [2, 2]}
    for part, found in images.items():
        raw = tmp_path / kind / "raw"
        write_idx(raw / f"{part}-images-idx3-ubyte", found)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.array(labels[part]))
    found = read(source, tmp_path)
    names = {
        "mnist": ["0", "9", "1", "2"],
        "fashion_mnist": ["T-shirt/top", "Ankle boot", "Trouser", "Pullover"],
        "kmnist": ["o", "wo", "ki", "su"],
    }[source]
    assert found.columns["class"] == [*names, names[-1]]
    assert np.array_equal(found.images, np.concatenate([images["train"], images["t10k"]]))
    assert rows(found.splits) == {"train": [0, 1, 2], "test": [3, 4]}


def test_labels_without_a_class_or_an_image_are_told(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels(2, 28, 28))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.array([1, 33]))
    with pytest.raises(DataError, match="train has the label 33; expected 0 to 9"):
        read("mnist", tmp_path)
    write_idx(raw / "train-labels-idx1-ubyte", np.array([1]))
    with pytest.raises(DataError, match="train has 2 images and 1 labels"):
        read("mnist", tmp_path)
    whole = (raw / "train-images-idx3-ubyte").read_bytes()
    (raw / "train-images-idx3-ubyte").write_bytes(whole[:-100])
    with pytest.raises(DataError, match="torchvision finds no complete set"):
        read("mnist", tmp_path)


def test_usps(tmp_path):
    images = {"usps.bz2": pixels(2, 16, 16), "usps.t.bz2": pixels(1, 16, 16)}
    for file, found in images.items():
        lines = [
            " ".join(
                [str(k + 1), *(f"{i}:{v / 127.5 - 1:.8f}" for i, v in enumerate(image.ravel()))]
            )
            for k, image in enumerate(found)
        ]
        (tmp_path / file).write_bytes(bz2.compress("\n".join(lines).encode()))
    found = read("usps", tmp_path)
    assert found.columns["class"] == ["0", "1", "0"]
    difference = found.images.astype(int) - np.concatenate(list(images.values()))
    assert abs(difference).max() <= 1


def test_emnist_stands_upright_in_both_cases(tmp_path):
    raw = tmp_path / "EMNIST" / "raw"
    images = {"train": pixels(3, 28, 28), "test": pixels(1, 28, 28)}
    labels = {"train": [0, 10, 61], "test": [36]}
    for part, found in images.items():
        prefix = raw / f"emnist-byclass-{part}"
        write_idx(Path(f"{prefix}-images-idx3-ubyte"), found.transpose(0, 2, 1))
        write_idx(Path(f"{prefix}-labels-idx1-ubyte"), np.array(labels[part]))
    found = read("emnist", tmp_path)
    assert np.array_equal(found.images, np.concatenate([images["train"], images["test"]]))
    assert found.columns == {
        "class": ["0", "A", "z", "a"],
        "case": ["digit", "upper", "lower", "lower"],
    }
    write_idx(raw / "emnist-letters-train-images-idx3-ubyte", pixels(2, 28, 28))
    write_idx(raw / "emnist-letters-train-labels-idx1-ubyte", np.array([1, 26]))
    write_idx(raw / "emnist-letters-test-images-idx3-ubyte", pixels(1, 28, 28))
    write_idx(raw / "emnist-letters-test-labels-idx1-ubyte", np.array([2]))
    letters = read("emnist", tmp_path, subset="letters")
    assert letters.columns == {"class": ["a", "z", "b"]}
    assert len(letters.classes["class"]) == 26


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(8, 8, 3)).save(path)
    return path


def test_caltech101(tmp_path):
    with pytest.raises(DataError, match="has no folder caltech101/101_ObjectCategories"):
        read("caltech101", tmp_path)
    assert list(tmp_path.iterdir()) == []  # a look leaves nothing behind
    objects = tmp_path / "caltech101" / "101_ObjectCategories"
    files = [objects / c / f"image_000{k}.jpg" for c in ("ant", "beaver") for k in (1, 2)]
    for file in [*files, objects / "BACKGROUND_Google" / "image_0001.jpg"]:
        picture(file)
    found = read("caltech101", tmp_path)
    assert found.images == files
    assert found.columns == {"class": ["ant", "ant", "beaver", "beaver"]}
    assert found.splits == {}


def test_places365(tmp_path, monkeypatch):
    train = ["/a/airfield/00000001.jpg 0", "/b/beach/00000001.jpg 1"]
    texts = {
        "categories_places365.txt": ["/a/airfield 0", "/b/beach 1"],
        "places365_train_standard.txt": train,
        "places365_val.txt": ["Places365_val_00000001.jpg 1"],
    }
    for file, lines in texts.items():
        (tmp_path / file).write_text("\n".join(lines) + "\n")
    kind = datasets.Places365
    known = {
        split: [file, md5(tmp_path / file)]
        for split, (file, _) in kind._FILE_LIST_META.items()
        if (tmp_path / file).exists()
    }
    monkeypatch.setattr(kind, "_FILE_LIST_META", known)
    meta = kind._CATEGORIES_META[0]
    monkeypatch.setattr(kind, "_CATEGORIES_META", (meta, md5(tmp_path / meta)))
    found = read("places365", tmp_path)
    assert found.columns == {"class": ["a/airfield", "b/beach", "b/beach"]}
    assert found.images[0] == tmp_path / "data_256_standard" / "a" / "airfield" / "00000001.jpg"
    assert found.images[2] == tmp_path / "val_256" / "Places365_val_00000001.jpg"
    assert rows(found.splits) == {"train": [0, 1], "test": [2]}
    assert found.classes["class"] == ["a/airfield", "b/beach"]


def test_imagenet(tmp_path):
    for part in ("train", "val"):
        with pytest.raises(DataError, match=f"has no folder {part}/"):
            read("imagenet", tmp_path)
        for wnid in ("n01", "n02", "n03"):
            picture(tmp_path / part / wnid / "1.JPEG")
    with pytest.raises(DataError, match=r"ILSVRC2012_devkit_t12\.tar\.gz is not present"):
        read("imagenet", tmp_path)
    names = {"n01": ("tench", "Tinca tinca"), "n02": ("crane",), "n03": ("crane",)}
    torch.save((names, ["n02"]), tmp_path / "meta.bin")
    found = read("imagenet", tmp_path)
    assert found.columns["class"] == ["tench", "crane n02", "crane n03"] * 2
    assert found.columns["wnid"] == ["n01", "n02", "n03"] * 2
    assert rows(found.splits) == {"train": [0, 1, 2], "test": [3, 4, 5]}
    assert found.images[0] == tmp_path / "train" / "n01" / "1.JPEG"


def test_celeba(tmp_path, monkeypatch):
    folder = tmp_path / "celeba"
    files = [f"{k:06}.jpg" for k in range(1, 7)]
    for file in files:
        picture(folder / "img_align_celeba" / file)
    signs = ["1 -1", "-1 -1", "1 1", "1 -1", "-1 1", "1 1"]
    texts = {
        "list_attr_celeba.txt": [
            "6",
            "Smiling Young ",
            *map(" ".join, zip(files, signs, strict=True)),
        ],
        "identity_CelebA.txt": [f"{file} {k // 2}" for k, file in enumerate(files)],
        "list_bbox_celeba.txt": [
            "6",
            "image_id x_1 y_1 width height",
            *(f"{f} 1 2 3 4" for f in files),
        ],
        "list_landmarks_align_celeba.txt": [
            "6",
            "lefteye_x lefteye_y",
            *(f"{f} {' '.join(map(str, range(10)))}" for f in files),
        ],
        "list_eval_partition.txt": [f"{file} {k // 2}" for k, file in enumerate(files)],
    }
    for file, lines in texts.items():
        (folder / file).write_text("\n".join(lines) + "\n")
    known = [("", md5(folder / file), file) for file in texts]
    monkeypatch.setattr(datasets.CelebA, "file_list", known)
    found = read("celeba", tmp_path)
    assert found.images == [folder / "img_align_celeba" / file for file in files]
    assert found.columns["Smiling"] == [1, 0, 1, 1, 0, 1]
    assert found.columns["Young"] == [0, 0, 1, 0, 1, 1]
    assert found.columns["identity"] == [0, 0, 1, 1, 2, 2]
    assert found.columns["lefteye_x"] == [0] * 6
    assert found.columns["rightmouth_y"] == [9] * 6
    assert rows(found.splits) == {"train": [0, 1], "val": [2, 3], "test": [4, 5]}
    assert len(found.columns) == 13


@pytest.mark.parametrize("source", SETS)
def test_every_set_says_what_is_missing_and_writes_nothing(tmp_path, source):
    with pytest.raises(DataError, match="does not exist"):
        read(source, tmp_path / "nothing")
    with pytest.raises(DataError) as caught:
        read(source, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert all(
        "expected" in fault.problem or "has no folder" in fault.problem
        for fault in caught.value.faults
    )
    assert list(tmp_path.iterdir()) == []

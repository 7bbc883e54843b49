"""Every config of docs/scenarios.md checks and trains on small files in the sets' own formats."""

import hashlib
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from polytask.cli import main
from polytask.data.sources.cifar import ABOVE
from polytask.data.sources.layouts import CHARACTERS

PAGE = Path(__file__).parents[2] / "docs" / "scenarios.md"
CONFIGS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10" / "cifar10.zip"
RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def picture(path, side=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(side, side, 3)).save(path)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar100(folder, monkeypatch):
    kind, fine = datasets.CIFAR100, sorted(ABOVE)
    home = folder / "datasets" / kind.base_folder
    home.mkdir(parents=True)
    labels = {"train": list(range(100)) * 4, "test": list(range(100))}
    for file, numbers in labels.items():
        batch = {"data": pixels(len(numbers), 3072), "fine_labels": numbers}
        (home / file).write_bytes(pickle.dumps(batch))
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": fine}))
    monkeypatch.setattr(kind, "train_list", [["train", md5(home / "train")]])
    monkeypatch.setattr(kind, "test_list", [["test", md5(home / "test")]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(home / "meta")})


def levels(folder, monkeypatch):
    kinds = {"cat": "animal", "dog": "animal", "ship": "vehicle", "truck": "vehicle"}
    rows = ["image,split,kind,class"]
    for k in range(48):
        picture(folder / f"{k}.png")
        name = list(kinds)[k % 4]
        rows.append(f"{k}.png,{('train', 'val', 'test')[k // 4 % 3]},{kinds[name]},{name}")
    (folder / "levels.csv").write_text("\n".join(rows))


def celeba(folder, monkeypatch):
    home = folder / "datasets" / "celeba"
    names = "No_Beard Young Attractive Smiling Wearing_Lipstick High_Cheekbones Eyeglasses Bald"
    files = [f"{k:06}.jpg" for k in range(24)]
    for file in files:
        picture(home / "img_align_celeba" / file, 64)
    signs = np.where(RNG.random((24, 8)) < 0.5, 1, -1).tolist()
    said = [" ".join(map(str, [f, *row])) for f, row in zip(files, signs, strict=True)]
    split = [f"{file} {k // 8}" for k, file in enumerate(files)]
    texts = {
        "list_attr_celeba.txt": ["24", names, *said],
        "identity_CelebA.txt": split,
        "list_bbox_celeba.txt": ["24", "x", *(f"{f} 1 2 3 4" for f in files)],
        "list_landmarks_align_celeba.txt": [
            "24",
            "x",
            *(f"{f} {' '.join('0123456789')}" for f in files),
        ],
        "list_eval_partition.txt": split,
    }
    for file, lines in texts.items():
        (home / file).write_text("\n".join(lines) + "\n")
    known = [("", md5(home / file), file) for file in texts]
    monkeypatch.setattr(datasets.CelebA, "file_list", known)


def chars74k(folder, monkeypatch):
    for character in "0123456789ABCDEabcde":
        for k in range(8):
            number = CHARACTERS.index(character) + 1
            picture(folder / "English" / "Fnt" / f"Sample{number:03}" / f"{k}.png")


def stl10(folder, monkeypatch):
    home = folder / "datasets" / "stl10_binary"
    home.mkdir(parents=True)
    for part, count in (("train", 20), ("test", 10), ("unlabeled", 12)):
        (home / f"{part}_X.bin").write_bytes(pixels(count, 3, 96, 96).tobytes())
        (home / f"{part}_y.bin").write_bytes(bytes(k % 10 + 1 for k in range(count)))
    names = "airplane bird car cat deer dog horse monkey ship truck"
    (home / "class_names.txt").write_text("\n".join(names.split()))
    for key in ("train_list", "test_list"):
        listed = [[file, md5(home / file)] for file, _ in getattr(datasets.STL10, key)]
        monkeypatch.setattr(datasets.STL10, key, listed)


def folders(folder, monkeypatch):
    for k in range(24):
        picture(folder / "photos" / ("cat", "dog")[k % 2] / f"{k}.png", 64)
        picture(folder / "scans" / f"{k}.png", 64)


def nothing(folder, monkeypatch):
    pass


def split(folder, monkeypatch):
    """A few of the real photographs, as JPEG copies in folders."""
    if not REAL.exists():
        pytest.skip("no photographs at hand")
    with zipfile.ZipFile(REAL) as archive:
        for name in archive.namelist():
            if re.search(r"00[0-7]\d?\.jpg$", name) and name.endswith(("0.jpg", "5.jpg")):
                archive.extract(name, folder / "cifar10")


STAND_INS = [split, cifar100, levels, celeba, nothing, chars74k, stl10, folders]
NAMES = ["split", "hierarchy", "levels", "curriculum", "few", "cases", "unlabelled", "folders"]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_every_scenario_checks_and_trains(number, tmp_path, monkeypatch, capsys):
    assert len(CONFIGS) == len(NAMES)
    text = CONFIGS[number]
    STAND_INS[number](tmp_path, monkeypatch)
    text = text.replace("source: cifar10, path: datasets", "source: folder, path: cifar10")
    (tmp_path / "scenario.yaml").write_text(text)
    config = str(tmp_path / "scenario.yaml")
    assert main(["check", config]) == 0, capsys.readouterr().out
    options = ["train.batch=20", "--method", "hard", "--dry-run"]
    assert main(["train", config, *options]) == 0, capsys.readouterr().err

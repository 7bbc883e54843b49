"""NYUv2, Cityscapes and CamVid in their published and prepared layouts, on small files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.load import load_data
from polytask.data.sources.cityscapes import CLASSES, NINETEEN, SEVEN
from polytask.errors import DataError
from polytask.tasks import build

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZE = (8, 16)
ROOMS = {
    "what": {"kind": "segmentation", "label": "label"},
    "depth": {"kind": "depth"},
    "normals": {"kind": "normals"},
}
STREET = {
    "fine": {"kind": "segmentation", "label": "label_19"},
    "coarse": {"kind": "segmentation", "label": "label_7"},
    "disparity": {"kind": "depth", "label": "disparity"},
}
CAMVID = {"street": {"kind": "segmentation", "label": "label"}}


def loaded(source, path, wanted, **options):
    text = {
        "data": {"set": {"source": source, "path": str(path), **options}},
        "tasks": {name: {**task, "data": "set"} for name, task in wanted.items()},
    }
    config = read_config(json.loads(json.dumps(text)))
    tasks = build(config.tasks)
    return load_data(config, tasks, 0), tasks


def only_batch(data, split):
    (batch,) = data.scoring(split)
    return {name: target.value for name, _, target in batch}, batch.groups[0]


def write_npy(root, split, count, **maps):
    for folder, make in maps.items():
        (root / split / folder).mkdir(parents=True)
        for k in range(count):
            np.save(root / split / folder / f"{k}.npy", make(k))


def room(k):
    return np.full((*SIZE, 3), k / 20)


def unit(k):
    return np.tile([0.6, 0.0, 0.8], (*SIZE, 1)) * (k != 1)


@pytest.fixture
def rooms(tmp_path):
    for split, count in (("train", 12), ("val", 3)):
        write_npy(
            tmp_path,
            split,
            count,
            image=room,
            label=lambda k: np.where(np.arange(16) < 4, -1.0, k % 13) * np.ones((8, 1)),
            depth=lambda k: np.full((*SIZE, 1), 1.5 + k, np.float32),
            normal=unit,
        )
    return tmp_path


def test_prepared_rooms_have_classes_depths_and_normals(rooms):
    data, tasks = loaded("nyuv2", rooms, ROOMS)
    splits = data.sets["set"].splits
    assert [len(splits[s]) for s in ("train", "val", "test")] == [11, 1, 3]
    values, group = only_batch(data, "test")
    assert group.images.shape == (3, 3, *SIZE)
    mask = values["what"]["mask"]
    assert (mask[:, :, :4] == 255).all()
    assert mask[:, 0, 4:].unique(dim=1).flatten().tolist() == [0, 1, 2]
    assert tasks["what"].classes[:2] == ["bed", "books"]
    assert values["depth"]["depth"][:, 0, 0].tolist() == [1.5, 2.5, 3.5]
    normals = values["normals"]["normals"]
    assert normals[0, :, 0, 0].tolist() == pytest.approx([0.6, 0.0, 0.8])
    assert (normals[1] == 0).all()  # not known


def test_files_stand_in_the_order_of_their_numbers(rooms):
    data, _ = loaded("nyuv2", rooms, ROOMS)
    store = data.sets["set"].store
    grey = store.take(np.arange(12))[:, 0, 0, 0]
    assert grey.tolist() == [round(255 * k / 20) for k in range(12)]


def test_rooms_without_normals_still_serve_the_others(rooms):
    for file in rooms.glob("*/normal/*"):
        file.unlink()
    loaded("nyuv2", rooms, {name: ROOMS[name] for name in ("what", "depth")})
    with pytest.raises(DataError, match="normals"):
        loaded("nyuv2", rooms, ROOMS)


def test_arrays_of_objects_are_never_unpickled(rooms):
    np.save(rooms / "train" / "depth" / "3.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"3\.npy is no NPY array of numbers"):
        loaded("nyuv2", rooms, ROOMS)
    np.save(rooms / "train" / "depth" / "3.npy", np.ones(SIZE))
    np.save(rooms / "train" / "image" / "3.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"3\.npy is no NPY array of numbers"):
        loaded("nyuv2", rooms, ROOMS)


@pytest.mark.parametrize(
    ("folder", "array", "told"),
    [
        ("image", np.full((*SIZE, 3), 200.0), "floats from 0 to 1"),
        ("label", np.full(SIZE, 13), "the mask holds 13; expected 0 to 12"),
        ("label", np.full(SIZE, 0.5), "expected integers"),
        ("depth", np.ones((4, 4)), "has 4 × 4 pixels"),
        ("normal", np.ones(SIZE), "expected [H, W, 3]"),
    ],
)
def test_a_wrong_array_is_told_by_its_file(rooms, folder, array, told):
    np.save(rooms / "train" / folder / "3.npy", array)
    with pytest.raises(DataError) as error:
        loaded("nyuv2", rooms, ROOMS)
    (fault,) = error.value.faults
    assert "3.npy" in str(fault)
    assert told in str(fault)


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def published(tmp_path):
    """Cityscapes as published: image k holds class k of the nineteen, and the value 3, no class."""
    for split, count in (("train", 19), ("val", 2), ("test", 1)):
        for k in range(count):
            city, key = f"{split}{k % 2}", f"{split}{k % 2}_{k:06}_000019"
            ids = np.full((16, 32), CLASSES[k][1], np.uint8)
            ids[:8] = 3
            grey = np.full((16, 32, 3), 10 * k, np.uint8)
            picture(tmp_path / "leftImg8bit" / split / city / f"{key}_leftImg8bit.png", grey)
            for kind in ("labelIds", "instanceIds", "color"):
                picture(tmp_path / "gtFine" / split / city / f"{key}_gtFine_{kind}.png", ids)
            wide = np.full((16, 32), 1 + 256 * k, np.uint16)
            if k != 1:
                place = tmp_path / "disparity" / split / city / f"{key}_disparity.png"
                picture(place, wide)
    return tmp_path


def test_published_streets_have_both_sets_of_classes_and_disparities(published):
    data, tasks = loaded("cityscapes", published, STREET, size=[8, 16])
    assert (tasks["fine"].classes, tasks["coarse"].classes) == (NINETEEN, SEVEN)
    splits = data.sets["set"].splits
    assert [len(splits[s]) for s in ("train", "val", "test")] == [17, 2, 2]  # 19 and 2 published
    values = data.sets["set"].values
    groups = [SEVEN.index(group) for _, _, group in CLASSES]
    for k in range(19):
        row = next(i for i in range(19) if f"_{k:06}_" in data.sets["set"].place(i))
        assert (values["fine"]["mask"][row, 4:] == k).all()
        assert (values["coarse"]["mask"][row, 4:] == groups[k]).all()
        assert (values["fine"]["mask"][row, :4] == 255).all()
        assert data.sets["set"].labels["disparity"].present[row] == (k != 1)
        assert (values["disparity"]["depth"][row] == (k if k != 1 else 0)).all()


def test_prepared_streets_have_the_same_columns(tmp_path):
    for split, count in (("train", 10), ("val", 2)):
        write_npy(
            tmp_path,
            split,
            count,
            image=room,
            label_7=lambda k: np.full(SIZE, k % 7),
            label_19=lambda k: np.full(SIZE, k),
            depth=lambda k: np.full((*SIZE, 1), k / 10),
        )
    data, tasks = loaded("cityscapes", tmp_path, STREET)
    assert (tasks["fine"].classes, tasks["coarse"].classes) == (NINETEEN, SEVEN)
    values, _ = only_batch(data, "test")
    assert values["fine"]["mask"][:, 0, 0].tolist() == [0, 1]
    assert values["disparity"]["depth"][:, 0, 0].tolist() == pytest.approx([0, 0.1])


def test_both_layouts_of_camvid_say_the_same(tmp_path):
    rows = ["name,split"]
    for k in range(12):
        split = ("train", "val", "test")[k % 3]
        grey = np.full((*SIZE, 3), 20 * k, np.uint8)
        for root, images, masks in (
            ("folders", split, f"{split}annot"),
            ("listed", "images", "labels"),
        ):
            picture(tmp_path / root / images / f"{k:02}.png", grey)
            picture(tmp_path / root / masks / f"{k:02}.png", np.full(SIZE, k, np.uint8))
        rows.append(f"{k:02},{split}")
    (tmp_path / "listed" / "index.csv").write_text("\n".join(rows))
    seen = []
    for root in ("folders", "listed"):
        data, _ = loaded("camvid", tmp_path / root, CAMVID)
        values, group = only_batch(data, "test")
        seen.append((values["street"]["mask"][:, 0, 0].tolist(), group.images.tolist()))
    assert seen[0] == seen[1]
    assert seen[0][0] == [2, 5, 8, 255]  # 11 is no class


@pytest.mark.parametrize("source", ["nyuv2", "cityscapes", "camvid"])
def test_another_folder_is_refused_by_name(source, tmp_path):
    picture(tmp_path / "cats" / "1.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"holds neither .* Is it "):
        loaded(source, tmp_path, {"a": {"kind": "segmentation", "label": "label", "classes": 2}})


@pytest.mark.skipif(not SHARED.exists(), reason="no real images at ../shared/data")
def test_real_scenes_are_read():
    data, _ = loaded("camvid", SHARED / "camvid" / "camvid.zip", CAMVID, size=[24, 32])
    splits = data.sets["set"].splits
    assert [len(splits[s]) for s in ("train", "val", "test")] == [367, 101, 233]

"""polytask init: the configs it writes are commented, true to the data, and train."""

import csv

import numpy as np
import pytest
from PIL import Image

from polytask import registry
from polytask.config import read_config
from polytask.examples import bundled

NPY = ("-m", "-parts", "-broken")


def picture(path, seed=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pets(tmp_path):
    """Split and class folders: 2 × (8 + 2 + 2) images of 40 × 30 pixels."""
    for split, count in {"train": 8, "val": 2, "test": 2}.items():
        for kind in ("cat", "dog"):
            for i in range(count):
                picture(tmp_path / "pets" / split / kind / f"{i}.png", seed=i)
    return tmp_path / "pets"


@pytest.fixture
def shelf(tmp_path):
    """A table with a class, two yes/no columns, a box, a mask, a price and an identifier."""
    folder = tmp_path / "shelf"
    names = ["image", "product", "wet", "torn", "dent_x0", "dent_y0", "dent_x1", "dent_y1"]
    rows = []
    for i in range(30):
        picture(folder / "images" / f"{i}.png", seed=i, size=(60, 60))
        Image.fromarray(np.full((60, 60), i % 2, dtype=np.uint8)).save(folder / f"m{i}.png")
        product = ("tea", "soap: yes", "")[i % 3]
        row = [f"images/{i}.png", product, i % 2, i % 5 // 4, 1, 2.5, 30, 40]
        rows.append([*row, f"m{i}.png", 1.5 * i, f"item {i}"])
    with (folder / "shelf.csv").open("w", newline="") as out:
        csv.writer(out).writerows([[*names, "mask", "price", "id"], *rows])
    return folder


@pytest.mark.parametrize("name", [example.name for example in bundled()])
def test_an_example_is_copied_with_its_comments_and_means_the_same(polytask, tmp_path, name):
    file = tmp_path / f"{name}.yaml"
    said = polytask("init", file, "--from", name)
    assert (said.code, said.out) == (0, "")
    assert str(file) in said.err
    assert file.read_text().count("#") > 3
    assert read_config(file).difference(read_config(name)) == []


def test_without_a_source_it_is_the_digits_example(polytask, tmp_path):
    polytask("init", tmp_path / "my.yaml")
    assert read_config(tmp_path / "my.yaml").difference(read_config("digits")) == []


def test_folders_of_classes_become_a_classification_task(polytask, tmp_path, pets):
    file = tmp_path / "configs" / "my.yaml"
    file.parent.mkdir()
    assert polytask("init", file, "--data", pets).code == 0
    config = read_config(file)
    assert config.data["pets"].source == "folder"
    assert (file.parent / config.data["pets"].path).resolve() == pets.resolve()
    assert not config.data["pets"].path.is_absolute()
    assert config.data["pets"].size == 64
    (task,) = config.tasks.values()
    assert (task.kind, task.data) == ("classification", "pets")
    assert [entry.key for entry in config.methods] == ["single"]
    text = file.read_text()
    assert "24 images; 40×30 pixels; splits: test 4, train 16, val 4" in text
    assert "cat 12, dog 12" in text


def test_a_table_becomes_a_task_for_each_kind_of_column(polytask, tmp_path, shelf):
    file = tmp_path / "my.yaml"
    assert polytask("init", file, "--data", shelf / "shelf.csv").code == 0
    config = read_config(file)
    tasks = {name: (task.kind, task.label) for name, task in config.tasks.items()}
    assert tasks["product"] == ("classification", "product")
    assert tasks["shelf_attributes"] == ("multilabel", ["wet", "torn"])
    text = file.read_text()
    corners = "[dent_x0, dent_y0, dent_x1, dent_y1]"
    known = registry.names("tasks")
    for kind, entry in {
        "box": f"dent: {{kind: box, data: shelf, label: {corners}}}",
        "segmentation": "mask: {kind: segmentation, data: shelf, label: mask, "
        "classes: [class_0, class_1]}",
    }.items():
        assert f"\n  {'' if kind in known else '# '}{entry}\n" in text
        assert (f"no task of kind {kind}" in text) is (kind not in known)
    assert "soap: yes 10, tea 10" in text
    assert "wet 15 of 30, torn 6 of 30" in text
    assert "no task for the columns price, id" in text
    methods = [entry.key for entry in config.methods]
    assert methods == ["single", "hard", "hard_filter", "multi_exit"]
    small = ["backbone.width=0.0625", "data.shelf.size=16"]
    said = polytask("train", file, *small, "--method", "multi_exit", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("labelled images") == len(config.tasks)


def test_label_maps_are_told_apart_by_how_they_are_kept(polytask, tmp_path):
    shop = tmp_path / "shop"
    columns = ["image", "depth", "metres", "normals", "parts", "empty", "broken"]
    rows = [columns]
    for i in range(4):
        picture(shop / f"{i}.png", seed=i)
        Image.fromarray(np.full((30, 40), 900 + i, np.uint16)).save(shop / f"{i}-mm.png")
        np.save(shop / f"{i}-m.npy", np.full((30, 40), 1.5 + i, np.float32))
        np.save(shop / f"{i}-parts.npy", np.arange(1200.0).reshape(30, 40) % 4 - 1)
        picture(shop / f"{i}-normals.png", seed=9 + i)
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(shop / f"{i}-empty.png")
        (shop / f"{i}-broken.npy").write_bytes(b"no array")
        ends = ("", "-mm", "-m", "-normals", "-parts", "-empty", "-broken")
        rows.append([f"{i}{e}.{'npy' if e in NPY else 'png'}" for e in ends])
    with (shop / "shop.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    file = tmp_path / "my.yaml"
    assert polytask("init", file, "--data", shop).code == 0
    kinds = {name: task.kind for name, task in read_config(file).tasks.items()}
    assert kinds == {
        "depth": "depth", "metres": "depth", "normals": "normals", "parts": "segmentation"
    }  # fmt: skip
    assert read_config(file).tasks["parts"].classes == ["class_0", "class_1", "class_2"]
    assert "# empty: {kind: segmentation" in file.read_text()
    assert "broken" not in kinds


def test_several_sets_make_one_config_that_trains(polytask, tmp_path, pets, shelf):
    file = tmp_path / "my.yaml"
    assert polytask("init", file, "--data", pets, shelf).code == 0
    config = read_config(file)
    assert list(config.data) == ["pets", "shelf"]
    assert list(config.tasks)[:1] == ["pets_class"]
    # Five tasks are more than a backbone has stages to leave at.
    assert [entry.key for entry in config.methods] == ["single", "hard", "hard_filter"]
    small = ["backbone.width=0.0625", "data.pets.size=16", "data.shelf.size=16"]
    said = polytask("train", file, *small, "--method", "hard_filter", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("labelled images") == len(config.tasks)


def test_a_column_with_classes_too_rare_to_train_is_left_as_a_comment(polytask, tmp_path):
    rows = [["image", "split", "kind", "width"]]
    for i in range(20):
        picture(tmp_path / "shop" / f"{i}.png", seed=i)
        split = "train" if i < 12 else "test"
        rows.append([f"{i}.png", split, ("cup", "pot")[i % 2], 30 + i // 2])
    with (tmp_path / "shop" / "shop.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    file = tmp_path / "my.yaml"
    assert polytask("init", file, "--data", tmp_path / "shop").code == 0
    assert list(read_config(file).tasks) == ["kind"]
    text = file.read_text()
    assert "fewer than 3 training images: 30 2, 31 2" in text
    assert "36 0" in text
    assert "\n  # width: {kind: classification, data: shop, label: width}\n" in text


def test_a_table_that_names_no_images_is_mentioned(polytask, tmp_path, pets):
    (pets / "index.csv").write_text("name,breed\na,b\n")
    file = tmp_path / "my.yaml"
    assert polytask("init", file, "--data", pets).code == 0
    assert "no column image in index.csv" in file.read_text()


def test_names_are_distinct_where_folders_share_theirs(polytask, tmp_path):
    for parent in ("a", "b"):
        for kind in ("x", "y"):
            for i in range(3):
                picture(tmp_path / parent / "2 images" / kind / f"{i}.png", seed=i)
    file = tmp_path / "my.yaml"
    found = [tmp_path / parent / "2 images" for parent in ("a", "b")]
    assert polytask("init", file, "--data", found[0], "--data", found[1]).code == 0
    config = read_config(file)
    assert list(config.data) == ["data_2_images", "data_2_images_2"]
    assert len(config.tasks) == 2


def test_an_existing_file_stays_as_it_is(polytask, tmp_path, pets):
    file = tmp_path / "my.yaml"
    file.write_text("mine")
    for arguments in (["--from", "shapes"], ["--data", pets]):
        said = polytask("init", file, *arguments)
        assert said.code == 2
        assert said.complaints == [f"{file}: exists; expected the name of a new file"]
    assert file.read_text() == "mine"


def test_data_that_cannot_be_used_is_told_all_at_once(polytask, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("image,kind\nnone.png,cat\n")
    file = tmp_path / "my.yaml"
    paths = [tmp_path / name for name in ("nowhere", "empty", "bad.csv")]
    said = polytask("init", file, "--data", *paths)
    assert said.code == 2
    assert len(said.complaints) == 3
    for line, path in zip(said.complaints, paths, strict=True):
        assert line.startswith(str(path))
    assert not file.exists()


def test_images_without_labels_are_no_task(polytask, tmp_path):
    picture(tmp_path / "scans" / "0.png")
    said = polytask("init", tmp_path / "my.yaml", "--data", tmp_path / "scans")
    assert said.code == 2
    assert "no labels" in said.err
    assert not (tmp_path / "my.yaml").exists()


@pytest.mark.parametrize(
    "arguments", [["--from", "digits", "--data", "x"], ["elsewhere"]], ids=["both", "no --data"]
)
def test_arguments_that_do_not_fit_together(polytask, tmp_path, arguments):
    said = polytask("init", tmp_path / "my.yaml", *arguments)
    assert said.code == 2
    assert len(said.complaints) == 1
    assert not (tmp_path / "my.yaml").exists()

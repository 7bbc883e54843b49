"""Masks and boxes stay on their objects: through resizing, cropping, mirroring and EXIF."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check
from polytask.data.decode import ORIENTATION, UPRIGHT, read_image, read_mask
from polytask.data.load import load_data
from polytask.data.overlay import FRAME, colour_of
from polytask.data.sheet import as_pixels, contact_sheet
from polytask.errors import DataError
from polytask.tasks import build

EDGES = ["x0", "y0", "x1", "y1"]
TASKS = """
tasks:
  outline: {kind: segmentation, data: shelf, label: mask, classes: [background, object]}
  where: {kind: box, data: shelf, label: [x0, y0, x1, y1]}
"""


@pytest.fixture
def shelf(tmp_path):
    """A bright rectangle on each of 20 pictures of 24 × 16 pixels, its mask and its box in a table.

    `change(rows)` edits the table, `options` those of the data set.
    """

    def write(change=lambda rows: None, options="size: 16", more=""):
        rng = np.random.default_rng(0)
        rows = []
        for i in range(20):
            x0, y0 = 2 * rng.integers(0, 8), 2 * rng.integers(0, 5)
            x1, y1 = x0 + 2 * rng.integers(2, 5), y0 + 2 * rng.integers(2, 4)
            mask = np.zeros((16, 24), np.uint8)
            mask[y0:y1, x0:x1] = 1
            y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            Image.fromarray(200 * mask).save(tmp_path / f"{i}.png")
            Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
            split = ("train", "train", "train", "val", "test")[i % 5]
            box = (x[0], y[0], x[-1] + 1, y[-1] + 1)
            row = {"image": f"{i}.png", "split": split, "mask": f"{i}_mask.png"}
            rows.append({**row, **dict(zip(EDGES, map(str, box), strict=True))})
        change(rows)
        with (tmp_path / "shelf.csv").open("w", newline="") as out:
            table = csv.DictWriter(out, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        (tmp_path / "shelf.yaml").write_text(
            f"data:\n  shelf: {{source: manifest, path: shelf.csv, {options}}}\n{TASKS}{more}"
        )
        return read_config(tmp_path / "shelf.yaml")

    write.folder = tmp_path
    return write


def load(config, memory=1 << 20):
    tasks = build(config.tasks)
    return load_data(config, tasks, 0, memory), tasks


def extent(mask):
    """The box of all object pixels of a mask [H, W]."""
    y, x = (mask == 1).nonzero().unbind(1)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


def seen(batch):
    """(image, mask, box) of every image of a batch that carries both labels."""
    (group,) = batch.groups
    outline, where = group.targets["outline"], group.targets["where"]
    rows = [range(len(group)) if t.rows is None else t.rows.tolist() for t in (outline, where)]
    masks = dict(zip(rows[0], outline.value["mask"], strict=True))
    boxes = dict(zip(rows[1], where.value["boxes"].tolist(), strict=True))
    return [(group.images[i], masks[i], boxes[i]) for i in masks if i in boxes]


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("memory", [1 << 20, 0])
def test_the_box_is_the_extent_of_the_mask_after_resizing(shelf, size, memory):
    """Squares of 24 × 16 pixels: the two directions scale differently."""
    data, _ = load(shelf(options=f"size: {size}"), memory)
    triples = [t for batch in data.scoring("train") for t in seen(batch)]
    assert len(triples) == 12
    for _, mask, box in triples:
        assert mask.shape == (size, size)
        found = torch.tensor(extent(mask)).float()
        # The nearest pixel is up to half a pixel off where the scale is no whole number.
        assert (found - torch.tensor(box)).abs().max() <= 0.5


def test_mask_box_and_picture_agree_after_crop_and_mirror(shelf):
    data, _ = load(
        shelf(options="augment: {flip: true, crop: 5}", more="train: {batch: 12}\nimage_size: 48\n")
    )
    moved, outside = set(), 0
    for epoch in range(6):
        for image, mask, box in (t for b in data.epoch(epoch) for t in seen(b)):
            # Bilinear enlarging leaves a corner pixel half of 200, a pixel beside an edge a third.
            bright = as_pixels(image[None], data.normalisation)[0][..., 0] > 90
            inside = mask != 255
            assert np.array_equal(bright[inside], (mask == 1).numpy()[inside])
            assert not bright[~inside].any()
            outside += int((~inside).sum())
            if (mask == 1).any():
                assert box == extent(mask)
                moved.add(tuple(box))
            else:
                assert box[0] == box[2] or box[1] == box[3]
    assert len(moved) > 40
    assert outside > 0  # what a crop brings in from beyond the picture is ignored


def test_a_task_has_the_rows_of_its_own_labels_alone(shelf):
    def halve(rows):
        for i, row in enumerate(rows):
            if i % 2:
                row["mask"] = ""
            if i % 3:
                row |= dict.fromkeys(EDGES, "")

    data, _ = load(shelf(halve))
    counts = {s: data.counts["shelf"][s]["labels"] for s in ("train", "val", "test")}
    assert counts["train"] == {"outline": 6, "where": 4}
    (batch,) = data.scoring("train")
    (group,) = batch.groups
    for task, step in (("outline", 2), ("where", 3)):
        target = group.targets[task]
        assert group.index[target.rows].tolist() == [
            i for i in group.index.tolist() if i % step == 0
        ]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_labels_refer_to_the_upright_picture(shelf, orientation):
    """The file is stored turned, EXIF says so; a mask may be stored upright or turned as well."""
    config = shelf()
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    for name in ("0.png", "0_mask.png", "5.png"):
        path = shelf.folder / name
        turned = Image.open(path).transpose(UPRIGHT[undo])
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        turned.save(path, exif=exif)
    data, _ = load(config)
    (batch,) = data.scoring("train")
    for image, mask, box in seen(batch)[:4]:
        bright = as_pixels(image[None], data.normalisation)[0][..., 0] > 100
        assert (bright == (mask == 1).numpy()).mean() > 0.9
        assert (torch.tensor(extent(mask)) - torch.tensor(box)).abs().max() <= 0.5


def test_masks_keep_their_values_in_every_mode(tmp_path):
    values = np.array([[0, 1, 2], [5, 255, 1]], np.uint8)
    grey = Image.fromarray(values)
    indexed = Image.new("P", (3, 2))
    indexed.putpalette([7, 9, 200] * 256)
    indexed.putdata(values.flatten().tolist())
    wide = Image.fromarray(values.astype(np.uint16))
    for name, picture in {"grey": grey, "palette": indexed, "wide": wide}.items():
        picture.save(tmp_path / f"{name}.png")
        assert np.array_equal(read_mask(tmp_path / f"{name}.png", "here"), values)
    Image.fromarray(values > 1).save(tmp_path / "bits.png")
    assert np.array_equal(read_mask(tmp_path / "bits.png", "here"), values > 1)
    assert np.array_equal(read_mask(values.astype(np.int64), "here"), values)


def test_what_is_no_mask_is_told(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "colour.png")
    Image.fromarray(np.full((2, 3), 300, np.uint16)).save(tmp_path / "wide.png")
    (tmp_path / "empty.png").touch()
    for name, said in {
        "colour": r"colour.png has RGB pixels; expected one number a pixel",
        "wide": r"wide.png holds the value 300; expected 0 to 255",
        "empty": r"empty.png is empty: 0 bytes",
        "gone": r"gone.png does not exist",
    }.items():
        with pytest.raises(DataError, match=said):
            read_mask(tmp_path / f"{name}.png", "shelf.csv:2")


def test_check_and_training_tell_the_same_faults_of_masks_and_boxes(shelf):
    def spoil(rows):
        Image.new("L", (16, 24)).save(shelf.folder / "turned.png")
        Image.new("L", (24, 16), 7).save(shelf.folder / "unknown.png")
        (shelf.folder / "cut.png").write_bytes((shelf.folder / "0_mask.png").read_bytes()[:40])
        rows[0]["mask"], rows[1]["mask"], rows[5]["mask"] = "turned.png", "unknown.png", "cut.png"
        rows[2]["x1"] = "25"
        rows[3]["y0"] = "-1"

    config = shelf(spoil)
    told = {(f.where.split("shelf.csv")[-1], f.problem) for f in check(config).faults}
    with pytest.raises(DataError) as caught:
        load(config)
    assert told == {(f.where.split("shelf.csv")[-1], f.problem) for f in caught.value.faults}
    problems = dict(told)
    assert "the mask has 16 × 24 pixels, its image 24 × 16" in problems[":2"]
    assert "the mask holds 7; expected 0 to 1" in problems[":3"]
    assert "reaches outside its image of 24 × 16 pixels" in problems[":4"]
    assert "reaches outside its image of 24 × 16 pixels" in problems[":5"]
    assert "cut.png has no known image format, or is damaged" in problems[":7"]


def test_inverted_boxes_and_missing_masks_are_told_by_check(shelf):
    def spoil(rows):
        rows[4]["x0"], rows[4]["x1"] = rows[4]["x1"], rows[4]["x0"]
        rows[6]["mask"] = "nowhere.png"

    told = [str(fault) for fault in check(shelf(spoil)).faults]
    assert len(told) == 2
    assert any("shelf.csv:6" in line and "inverted" in line for line in told)
    assert any("shelf.csv:8" in line and 'no image file "nowhere.png"' in line for line in told)


def test_check_counts_the_images_that_hold_a_class(shelf):
    def empty(rows):
        Image.new("L", (24, 16)).save(shelf.folder / "empty.png")
        rows[0]["mask"] = rows[1]["mask"] = "empty.png"

    report = check(shelf(empty))
    assert report.faults == []
    counts = report.data["shelf"].tasks["outline"].classes
    assert counts["background"] == {"train": 12, "val": 4, "test": 4}
    assert counts["object"] == {"train": 10, "val": 4, "test": 4}


def test_a_picture_that_is_skipped_takes_its_labels_with_it(shelf):
    config = shelf(more="on_bad_image: skip\n")
    (shelf.folder / "0.png").write_bytes(b"")
    (shelf.folder / "0_mask.png").write_bytes(b"")
    data, _ = load(config)
    assert data.counts["shelf"]["train"]["labels"] == {"outline": 11, "where": 11}


def test_another_mask_is_another_data_set(shelf):
    config = shelf()
    before = load(config)[0].fingerprint
    assert load(config)[0].fingerprint == before
    mask = read_image(shelf.folder / "0_mask.png", "")[..., 0]
    Image.fromarray(1 - mask).save(shelf.folder / "0_mask.png")
    assert load(config)[0].fingerprint != before


@given(st.integers(1, 254))
@settings(max_examples=20)
def test_classes_have_bright_colours_of_their_own(number):
    assert max(colour_of(number)) == 255
    assert len({colour_of(number), colour_of(number + 1), (128, 128, 128)}) == 3


def test_masks_and_boxes_are_drawn_on_the_contact_sheet(shelf):
    data, tasks = load(shelf(options="size: 48"))
    (batch,) = data.scoring("test")
    (group,) = batch.groups
    sheet = np.asarray(contact_sheet(group, tasks, data.normalisation))[6:102, 6:102]
    mask = group.targets["outline"].value["mask"][0]
    x0, y0, x1, y1 = (int(2 * edge) for edge in group.targets["where"].value["boxes"][0])
    for x, y in ((x0, y0), (x1 - 1, y0), (x0, y1 - 1), (x1 - 1, y1 - 1)):
        assert tuple(sheet[y, x]) == FRAME
    inside = sheet[(y0 + y1) // 2, (x0 + x1) // 2].astype(int)
    assert np.abs(inside - (200 + np.array(colour_of(1))) / 2).max() <= 2
    y, x = (mask == 0).nonzero()[0].tolist()
    assert tuple(sheet[2 * y, 2 * x]) == (0, 0, 0)

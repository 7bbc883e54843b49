"""One manifest, four kinds of labels, each half blank: class, attributes, mask and box."""

import csv

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check
from polytask.data.sources.shapes import SHAPES, draw
from polytask.deploy import load
from polytask.training import train

COUNT, HEIGHT, WIDTH = 140, 24, 32
ATTRIBUTES = ["filled", "striped", "large"]
EDGES = ["x0", "y0", "x1", "y1"]
PRIMARY = {"product": "accuracy", "damage": "accuracy", "outline": "miou", "where": "iou"}
CONFIG = """
data:
  shelf: {source: manifest, path: shelf.csv, size: 24, augment: {flip: true, crop: 2}}
tasks:
  product: {kind: classification, data: shelf, label: product}
  damage:  {kind: multilabel,     data: shelf, label: [filled, striped, large]}
  outline: {kind: segmentation,   data: shelf, label: mask, classes: [background, object]}
  where:   {kind: box,            data: shelf, label: [x0, y0, x1, y1]}
backbone: {name: resnet10, stem: small, width: 0.125}
methods: [single, hard]
train: {epochs: 12, batch: 16, optimizer: {name: sgd, lr: 0.05, momentum: 0.9}}
seeds: 1
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Pictures of 32 × 24 pixels; every label is blank on half of the images of each split."""
    folder = tmp_path_factory.mktemp("shelf")
    rows = []
    for i in range(COUNT):
        rng = np.random.default_rng((5, i))
        scene = draw(SHAPES[i % 5], HEIGHT, rng)
        right = ((0, 0), (0, WIDTH - HEIGHT))
        Image.fromarray(np.pad(scene.image, (*right, (0, 0)), "edge")).save(folder / f"{i}.png")
        mask = np.pad((scene.mask > 0).astype(np.uint8), right)
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        has = rng.permuted(np.arange(4)) < 2
        rows.append(
            {
                "image": f"{i}.png",
                "split": ("train", "train", "train", "val", "test")[(i // 5) % 5],
                "product": scene.shape if has[0] else "",
                **{a: scene.attributes[a] if has[1] else "" for a in ATTRIBUTES},
                "mask": f"{i}_mask.png" if has[2] else "",
                **{e: v if has[3] else "" for e, v in zip(EDGES, scene.box, strict=True)},
            }
        )
    with (folder / "shelf.csv").open("w", newline="") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (folder / "shelf.yaml").write_text(CONFIG)
    return folder, rows


@pytest.fixture(scope="module", params=["single", "hard"])
def trained(request, shelf):
    folder, rows = shelf
    out = folder / request.param
    result = train(folder / "shelf.yaml", request.param, out=out)
    return result, load(out), [row for row in rows if row["split"] == "test"]


def test_the_manifest_is_sound_and_half_blank(shelf):
    folder, rows = shelf
    report = check(read_config(folder / "shelf.yaml"))
    assert report.faults == []
    columns = {"product": "product", "damage": "filled", "outline": "mask", "where": "x0"}
    for task, column in columns.items():
        labelled = report.data["shelf"].tasks[task].labelled
        for split, count in labelled.items():
            assert count == sum(r["split"] == split and r[column] != "" for r in rows)
        assert 0.35 < sum(labelled.values()) / COUNT < 0.65


def test_all_four_metrics_are_reported(trained):
    result, _, _ = trained
    for task, metric in PRIMARY.items():
        assert 0 < result["tasks"][task][metric] <= 1
        assert result["primary"][task] == metric
    assert set(result["tasks"]["outline"]) == {
        "miou",
        "pixel_accuracy",
        "iou_background",
        "iou_object",
    }
    assert set(result["tasks"]["where"]) == {"iou", "accuracy_50"}
    assert result["tasks"]["outline"]["miou"] > result["chance"]["outline"] + 0.05


def test_boxes_that_a_user_reads_overlap_as_reported(trained, shelf):
    """Scores are those of the answers, in the pixels of the files."""
    result, model, rows = trained
    overlaps = []
    for row in rows:
        if row["x0"] != "":
            (answer,) = model.predict(shelf[0] / row["image"], ["where"]).values()
            overlaps.append(naive_iou(answer["box"], [float(row[edge]) for edge in EDGES]))
    assert len(overlaps) > 5
    assert np.mean(overlaps) == pytest.approx(result["tasks"]["where"]["iou"], abs=1e-4)


def test_masks_that_a_user_reads_overlap_as_reported(trained, shelf):
    result, model, rows = trained
    both, either = np.zeros(2), np.zeros(2)
    for row in rows:
        if row["mask"]:
            (answer,) = model.predict(shelf[0] / row["image"], ["outline"]).values()
            found = np.array(answer["mask"])
            true = np.asarray(Image.open(shelf[0] / row["mask"]))
            assert found.shape == (HEIGHT, WIDTH)
            for k in (0, 1):
                both[k] += ((found == k) & (true == k)).sum()
                either[k] += ((found == k) | (true == k)).sum()
    # The network's pixels are wider than the file's.
    assert (both / either).mean() == pytest.approx(result["tasks"]["outline"]["miou"], abs=0.03)


def naive_iou(one, other):
    sides = [max(0, min(one[k + 2], other[k + 2]) - max(one[k], other[k])) for k in (0, 1)]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])

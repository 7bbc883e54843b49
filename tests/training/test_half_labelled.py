"""A box for half of the images: training and scores take what is there, and nothing else."""

import numpy as np
import pytest
import torch
from PIL import Image

from polytask import load, train
from polytask.data.load import load_data
from polytask.tasks.box_losses import iou

COUNT, SIDE = 40, 32


def shelf(folder, *, other=False):
    """Squares on dark ground, boxed in every second picture; `other` boxes say another thing."""
    folder.mkdir()
    rows = ["image,split,mask,x0,y0,x1,y1"]
    for k in range(COUNT):
        x, y, side = 2 + 3 * k % 13, 2 + 5 * k % 11, 8 + k % 7
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[y : y + side, x : x + side] = 1
        Image.fromarray(200 * mask).save(folder / f"{k}.png")
        Image.fromarray(mask).save(folder / f"{k}-mask.png")
        split = ("train", "train", "train", "val", "test")[k // 2 % 5]
        box = "0,0,4,4" if other else f"{x},{y},{x + side},{y + side}"
        rows.append(f"{k}.png,{split},{k}-mask.png,{box if k % 2 else ',,,'}")
    (folder / "shelf.csv").write_text("\n".join(rows))
    return {
        "data": {"shelf": {"source": "manifest", "path": str(folder / "shelf.csv")}},
        "tasks": {
            "outline": {
                "kind": "segmentation",
                "data": "shelf",
                "classes": ["ground", "square"],
                "decoder": "conv",
            },
            "where": {"kind": "box", "data": "shelf", "grid": 1, "hidden": 8},
        },
        "backbone": {"name": "residual_segnet", "stem": "small", "width": 0.125},
        "methods": ["single", "hard"],
        "train": {"epochs": 2, "batch": 12, "optimizer": {"name": "adam", "lr": 0.003}},
        "seeds": 1,
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("half")
    config = shelf(root / "shelf")
    return {m: (train(config, m, out=root / m), root / m) for m in ("single", "hard")}


@pytest.mark.parametrize("method", ["single", "hard"])
def test_scores_are_of_the_labelled_images_alone(runs, method):
    result, folder = runs[method]
    assert result["test_counts"] == {"outline": 8, "where": 4}
    assert result["labels"]["shelf"]["train"]["labels"] == {"outline": 24, "where": 12}
    model = load(folder)
    data = load_data(model._config, model.tasks, 0)
    (batch,) = data.scoring("test")
    (group,) = batch.groups
    rows = group.targets["where"].rows
    assert (group.index[rows] % 2 == 1).all()
    with torch.no_grad():
        found = model.path("where")(group.images[rows]).clamp(0, 1) * SIDE
    wanted = iou(found, group.targets["where"].value["boxes"]).mean()
    assert result["tasks"]["where"]["iou"] == pytest.approx(float(wanted), abs=1e-5)


def test_every_task_sees_as_many_images_however_the_network_shares(runs):
    (single, _), (hard, _) = runs["single"], runs["hard"]
    assert single["samples"] == hard["samples"]
    assert single["samples"]["outline"] == 2 * single["samples"]["where"]


def test_boxes_move_nothing_of_the_network_of_another_task(runs, tmp_path):
    """Other boxes give another `where`, and the very same `outline` in networks of their own."""
    _, folder = runs["single"]
    config = shelf(tmp_path / "shelf", other=True)
    train(config, "single", out=tmp_path / "run")
    for task, is_same in (("outline", True), ("where", False)):
        one, two = (load(f).path(task).state_dict() for f in (folder, tmp_path / "run"))
        assert all(torch.equal(one[name], two[name]) for name in one) is is_same

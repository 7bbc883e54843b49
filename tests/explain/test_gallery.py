"""What a finished run shows of its answers, held against answers computed anew."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from polytask import load, train
from polytask.data.load import load_data
from polytask.data.overlay import colour_of
from polytask.report import report
from polytask.report.records import Answers, Confusion

CONFIG = {
    "data": {"scenes": {"source": "shapes", "count": 80, "size": 24}},
    "tasks": {
        "outline": {
            "kind": "segmentation",
            "data": "scenes",
            "classes": ["ground", "a", "b", "c", "<i>", "e"],
        },
        "where": {"kind": "box", "data": "scenes"},
        "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
    },
    "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
    "methods": ["hard"],
    "train": {"epochs": 1, "batch": 16},
    "seeds": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "run"
    train(CONFIG, "hard", out=folder)
    return folder


@pytest.fixture(scope="module")
def scored(run):
    """Loss of every validation image and prediction for every test image, by task."""
    model = load(run)
    data = load_data(model._config, model.tasks, 0)
    losses, found = {}, {}
    for split, keep in (("val", losses), ("test", found)):
        (batch,) = data.scoring(split)
        for name, group, target in batch:
            with torch.no_grad():
                prediction = model.path(name)(group.images)
            loss, weight = model.tasks[name].loss(prediction, target.value)
            each = dict(zip(group.index.tolist(), (loss / weight).tolist(), strict=True))
            keep[name] = each if split == "val" else (prediction, target.value)
    return losses, found


def answers(run):
    return Answers.model_validate_json((run / "plots" / "answers.json").read_bytes())


@pytest.mark.parametrize("task", ["outline", "where", "shape"])
def test_the_worst_images_are_those_of_the_highest_loss(run, scored, task):
    wanted = sorted(scored[0][task].items(), key=lambda pair: -pair[1])[:6]
    worst = answers(run).worst[task]
    assert [example.place for example in worst] == [f"scenes[{index}]" for index, _ in wanted]
    told = [example.tasks[task].loss for example in worst]
    assert told == pytest.approx([loss for _, loss in wanted], rel=1e-4)


def test_confusion_matrices_give_the_scores_of_the_test_images(run, scored):
    result = json.loads((run / "result.json").read_bytes())["tasks"]
    found = Confusion.model_validate_json((run / "plots" / "confusion.json").read_bytes())
    assert found.split == "test"
    assert found.tasks.keys() == {"outline", "shape"}
    for task, metric in (("outline", "pixel_accuracy"), ("shape", "accuracy")):
        counts = np.array(found.tasks[task].counts)
        assert counts.trace() / counts.sum() == pytest.approx(result[task][metric])
    prediction, target = scored[1]["shape"]
    pairs = torch.stack([target, prediction.argmax(1)]).T.tolist()
    assert found.tasks["shape"].counts == [
        [pairs.count([i, j]) for j in range(5)] for i in range(5)
    ]


def test_images_spread_over_the_split_show_labels_beside_answers(run, scored):
    shown = answers(run).shown
    rows = sorted(scored[0]["shape"])
    assert [e.place for e in shown[:: len(shown) - 1]] == [
        f"scenes[{k}]" for k in rows[:: len(rows) - 1]
    ]
    for example in shown:
        assert example.tasks.keys() == {"outline", "where", "shape"}
        (picture,) = example.pictures
        with (
            Image.open(run / "plots" / picture.label) as label,
            Image.open(run / "plots" / picture.answer) as answer,
        ):
            assert label.size == answer.size == (24, 24)
            assert label.tobytes() != answer.tobytes()


def test_the_page_shows_them_and_names_stay_text(run):
    text = report(run).read_text("utf-8")
    for anchor in ("answers", "worst", "confusion"):
        assert f'<section id="{anchor}">' in text
    assert "<i>" not in text
    assert "&lt;i&gt;" in text
    assert text.count("data:image/jpeg;base64,") >= 2 * 6 + 2 * 6 + 2 * 6 + 6


def test_the_page_names_the_colour_of_every_class(run):
    colours = answers(run).colours
    assert list(colours["outline"]) == CONFIG["tasks"]["outline"]["classes"]
    assert colours.keys() == {"outline"}
    text = report(run).read_text("utf-8")
    assert text.count('class="swatch"') == 6
    for number, colour in enumerate(colours["outline"].values()):
        red, green, blue = colour_of(number)
        assert colour == (f"#{red:02x}{green:02x}{blue:02x}" if number else None)
        assert not number or f"background:{colour}" in text


def test_pictures_from_elsewhere_are_not_taken_into_the_page(run, tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"\xff\xd8\xff secret")
    path = run / "plots" / "answers.json"
    kept = path.read_text("utf-8")
    changed = json.loads(kept)
    changed["shown"][0]["pictures"][0]["label"] = str(secret)
    path.write_text(json.dumps(changed), "utf-8")
    try:
        text = report(run).read_text("utf-8")
    finally:
        path.write_text(kept, "utf-8")
    assert "1 picture(s) of answers" in text
    assert "c2VjcmV0" not in text

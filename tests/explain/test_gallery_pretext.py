"""What a page shows of tasks that make their own inputs, against what they were made from."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from polytask import tasks as kinds
from polytask import train
from polytask.config import read_config
from polytask.data.load import load_data
from polytask.report import report
from polytask.tasks.pretext.colorization import coloured, grey_and_ab
from polytask.tasks.pretext.jigsaw import Jigsaw, JigsawOptions

CONFIG = {
    "data": {"scenes": {"source": "shapes", "count": 80, "size": 24}},
    "tasks": {
        "again": {"kind": "reconstruction", "data": "scenes"},
        "colour": {"kind": "colorization", "data": "scenes"},
        "tiles": {"kind": "jigsaw", "data": "scenes", "grid": 2},
        "parts": {"kind": "wnet", "data": "scenes"},
        "turned": {"kind": "rotation", "data": "scenes"},
    },
    "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
    "methods": ["hard"],
    "train": {"epochs": 1, "batch": 16},
    "seeds": 1,
}


def made(name):
    """The task, a group of validation images as it is scored, its target and a perfect answer."""
    config = read_config(CONFIG)
    tasks = kinds.build(config.tasks)
    data = load_data(config, tasks, 0)
    for batch in data.scoring("val"):
        for task, group, target in batch:
            if task == name:
                return tasks[name], data, group, target.value
    raise AssertionError(name)


def test_a_right_answer_to_a_puzzle_is_the_right_picture():
    """And its tiles are those that were seen, in the order that makes the picture again."""
    task, _, group, value = made("tiles")
    seen = np.random.default_rng(0).integers(0, 256, (group.views, 5, 5, 3), np.uint8)
    logits = torch.nn.functional.one_hot(value[:1], len(task.classes)).float()
    pictures = task.pictures(seen, logits, value[:1])
    assert np.array_equal(pictures.right, pictures.answer)
    order = task.permutations[int(value[0])]
    for place, tile in enumerate(order):
        row, column = divmod(int(tile), 2)
        found = pictures.right[row * 6 : row * 6 + 5, column * 6 : column * 6 + 5]
        assert np.array_equal(found, seen[place])
    assert pictures.seen.shape == (11, 11, 3)


def test_tiles_of_a_mosaic_are_told_apart():
    task = Jigsaw("tiles", JigsawOptions(kind="jigsaw", data="x", grid=3, mode="mosaic"))
    tiles = np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    mosaic = np.concatenate([np.concatenate(list(tiles[i : i + 3]), 1) for i in (0, 3, 6)])
    label = torch.tensor([7])
    logits = torch.nn.functional.one_hot(label, len(task.classes)).float()
    pictures = task.pictures(mosaic[None], logits, label)
    first = pictures.right[::5, ::5, 0].ravel()
    assert first.tolist() == np.argsort(task.permutations[7]).tolist()


@pytest.mark.parametrize("colour", [(200, 40, 90), (128, 128, 128), (10, 250, 30), (255, 255, 255)])
def test_true_colours_give_the_image_back(colour):
    """Where a colour fills the image, whose colours are known at a quarter of its size."""
    image = np.full((1, 24, 24, 3), colour, np.uint8)
    grey, ab = grey_and_ab(np.moveaxis(image, -1, 1))
    found = coloured(np.moveaxis(grey[0].numpy(), 0, -1), ab)
    assert np.abs(found.astype(int) - image[0]).max() <= 2


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery") / "run"
    train(CONFIG, "hard", out=folder)
    return folder


def test_a_page_shows_what_pretext_tasks_made(run):
    """Every shown image once a task with pictures; the label is as wide as two of the answer."""
    answers = json.loads((run / "plots" / "answers.json").read_text("utf-8"))
    pictures = [picture for example in answers["shown"] for picture in example["pictures"]]
    drawn = {picture["of"] for picture in pictures}
    assert drawn == {"again", "colour", "tiles", "parts"}
    counts = {of: sum(picture["of"] == of for picture in pictures) for of in drawn}
    assert len(set(counts.values())) == 1
    for picture in pictures:
        width = {}
        for side in ("label", "answer"):
            with Image.open(run / "plots" / picture[side]) as shown:
                width[side] = shown.width
        assert width["label"] == 2 * width["answer"] + 4
    report(run)
    page = (run / "report.html").read_text("utf-8")
    assert "What the tasks answer" in page
    assert page.count("data:image/jpeg") == 2 * len(pictures)

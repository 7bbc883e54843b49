"""Activation maps: those of the path itself, column by column."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from polytask.config import read_config
from polytask.explain.activations import CELL, GAP, LINE, maps_by_column, sheet
from polytask.report.folder import read_folder
from polytask.report.page import render
from polytask.training.run import Run, train_run

METHODS = ["single", "cross_stitch", {"kernel_sharing": {"groups": [["digit"], ["print"]]}}, "hard"]


@pytest.fixture(scope="module")
def config():
    return read_config(
        {
            "data": {
                "digits": {"source": "digits", "fraction": 0.03, "size": 12},
                "prints": {"source": "printed_digits", "count": 60, "size": 16},
            },
            "tasks": {
                "digit": {"kind": "classification", "data": "digits"},
                "print": {"kind": "classification", "data": "prints"},
            },
            "mixing": "multi_input",
            "backbone": {"name": "vgg11", "width": 0.0625},
            "methods": METHODS,
            "train": {"epochs": 1, "batch": 40},
            "seeds": 1,
        }
    )


@pytest.fixture
def built(config, tmp_path):
    return lambda key: Run.alone(config, config.method(key), 0).method


def by_hand(column, image):
    """The mean of every stage's map, the units run one after the other."""
    state, found = image, {}
    ends = {unit: stage for stage, unit in column.stages.items()}
    for name, unit in column:
        state = unit(state)
        if name in ends:
            found[ends[name]] = column.feature(state)[0].mean(dim=0)
    return found


@torch.no_grad()
def test_without_links_every_column_sees_the_image_alone(built):
    method = built("single").eval()
    image = torch.randn(1, 3, 16, 16)
    found = maps_by_column(method, "digit", image)
    assert list(found) == ["digit", "print"]
    for name, maps in found.items():
        wanted = by_hand(method.columns[name], image)
        assert maps.keys() == wanted.keys()
        for stage in wanted:
            assert_close(maps[stage], wanted[stage])


@torch.no_grad()
def test_linked_columns_show_what_links_made_of_the_maps(built):
    method = built("cross_stitch").eval()
    for weight in method.columns["print"].parameters():  # columns start alike
        weight.neg_()
    image = torch.randn(1, 3, 16, 16)
    found = maps_by_column(method, "digit", image)["digit"]
    alone = by_hand(method.columns["digit"], image)
    for link in method.links.values():
        link.alpha.copy_(torch.eye(2).expand_as(link.alpha))
    apart = maps_by_column(method, "digit", image)["digit"]
    assert all(torch.allclose(apart[stage], alone[stage]) for stage in alone)
    assert not any(torch.allclose(found[stage], alone[stage]) for stage in list(alone)[:2])


def test_a_sheet_shows_the_least_black_and_the_most_white():
    values = torch.tensor([[0.0, 2.0], [1.0, 2.0]])
    made = np.asarray(sheet(np.zeros((4, 4, 3), np.uint8), {"a": {"block1": values}}))
    left = GAP + 2 * (CELL + GAP)
    cell = made[LINE : LINE + CELL, left : left + CELL, 0]
    quarter = CELL // 4
    corners = [cell[y, x] for y in (quarter, -quarter) for x in (quarter, -quarter)]
    assert corners == [0, 255, 128, 255]


def test_runs_of_columns_keep_sheets_and_the_page_shows_them(config, tmp_path):
    for name, wanted in (("kernel_sharing", ["digit", "print"]), ("hard", [])):
        folder = tmp_path / name
        train_run(config, config.method(name), 0, folder)
        files = sorted(path.name for path in (folder / "plots").glob("activations-*.png"))
        assert files == [f"activations-{task}.png" for task in wanted]
        page = render(read_folder(folder))
        assert page.count("Activation maps of kernel_sharing on an image of") == len(wanted)
        assert ("<h2>Activation maps</h2>" in page) == bool(wanted)
    stages = 5  # of VGG, behind the name of the column and the image
    with Image.open(tmp_path / "kernel_sharing" / "plots" / "activations-digit.png") as picture:
        assert picture.size == ((stages + 2) * (CELL + GAP) + GAP, LINE + 2 * (CELL + GAP) + GAP)
    page = render(read_folder(tmp_path / "kernel_sharing"))
    assert "groups: [digit] [print]" in page
    assert "Sharing ratios" not in page  # nothing may be shared across groups of one
    ratios = json.loads((tmp_path / "kernel_sharing" / "plots" / "kernel_sharing.json").read_text())
    assert not any(layer["is_shareable"] for layer in ratios["layers"].values())

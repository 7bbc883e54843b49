"""What an encoder finds alike, against distances counted by hand."""

import numpy as np
import pytest
from PIL import Image

from polytask import train
from polytask.explain.alike import (
    NEAREST,
    neighbours,
    on_plane,
    rows_of_clusters,
    rows_of_neighbours,
)
from polytask.report import report


def test_neighbours_are_those_of_the_smallest_angle_whatever_their_length():
    features = np.array([[1.0, 0.0], [10.0, 1.0], [0.0, 2.0], [-3.0, 0.1]])
    assert neighbours(features)[0].tolist() == [1, 2, 3]
    assert neighbours(features)[2].tolist() == [1, 3, 0]


def test_no_image_is_its_own_neighbour():
    drawn = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    order = neighbours(drawn)
    assert all(sorted([i, *row]) == list(range(20)) for i, row in enumerate(order.tolist()))
    assert all(len(set(row)) == NEAREST + 1 for row in rows_of_neighbours(drawn))


def test_the_plane_keeps_distances_of_what_lies_on_one():
    """Up to the scale of each axis, which the picture's sides set."""
    rng = np.random.default_rng(1)
    flat = rng.normal(size=(30, 2)) * [5, 1]
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    places = on_plane(flat @ basis)
    assert places.min() == 0
    assert places.max() == pytest.approx(1)
    long = flat[:, 0] - flat[:, 0].mean()
    assert abs(np.corrcoef(places[:, 0], long)[0, 1]) > 0.99


def test_clusters_show_their_surest_images_first():
    shares = np.array([[0.6, 0.4, 0], [0.9, 0.1, 0], [0.2, 0.8, 0], [0.7, 0.3, 0]])
    assert rows_of_clusters(shares) == [[1, 3, 0], [2]]


def test_a_page_shows_what_is_alike(tmp_path):
    config = {
        "data": {"scenes": {"source": "shapes", "count": 80, "size": 24}},
        "tasks": {
            "again": {"kind": "reconstruction", "data": "scenes"},
            "turned": {"kind": "rotation", "data": "scenes"},
            "groups": {"kind": "clustering", "data": "scenes", "label": "shape"},
            "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
        },
        "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
        "methods": ["hard"],
        "train": {"epochs": 1, "batch": 16},
        "seeds": 1,
    }
    run = tmp_path / "run"
    train(config, "hard", out=run)
    drawn = sorted(path.name for path in (run / "plots").glob("alike-*.png"))
    assert drawn == ["alike-again.png", "alike-groups.png"]
    with Image.open(run / "plots" / "alike-again.png") as picture:
        assert picture.width > picture.height > 400
    report(run)
    assert "What is alike" in (run / "report.html").read_text("utf-8")

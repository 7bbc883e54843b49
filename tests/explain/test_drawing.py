"""Answers drawn on pictures: which pixels change, where frames stand, what is said in words."""

import numpy as np
import pytest
from PIL import Image

from polytask.data.overlay import FRAME, colour_of, depth_colours
from polytask.errors import UserError
from polytask.explain.drawing import MAIN, TRUE, drawn, in_words, write_overlay

GREY = np.full((20, 30, 3), 100, np.uint8)


def test_a_mask_tints_its_pixels_alone_and_boxes_frame_theirs():
    mask = np.zeros((20, 30), int)
    mask[:5, :5] = 1
    picture = drawn(GREY, {"what": {"mask": mask}, "where": {"box": [10, 8, 20, 16]}})
    found = np.asarray(picture[MAIN]).astype(int)
    assert picture.keys() == {MAIN}
    assert np.abs(found[2, 2] - (100 + np.array(colour_of(1))) / 2).max() <= 1
    edge = np.zeros((20, 30), bool)
    edge[8:16, 10:20] = True
    edge[9:15, 11:19] = False
    assert (found[edge] == FRAME).all()
    assert (found[~edge & (mask == 0)] == 100).all()


def test_the_labelled_box_lies_below_the_predicted_one():
    label = {"where": {"box": [2, 2, 10, 10]}}
    apart = np.asarray(drawn(GREY, {"where": {"box": [12, 2, 20, 10]}}, label)[MAIN])
    assert tuple(apart[2, 2]) == TRUE
    assert tuple(apart[2, 12]) == FRAME
    assert tuple(np.asarray(drawn(GREY, label, label)[MAIN])[2, 2]) == FRAME


def test_maps_that_hide_the_image_are_pictures_of_their_own():
    flat = np.zeros((20, 30), int)
    up = np.tile([0.0, 0.0, 1.0], (20, 30, 1))
    answers = {
        "what": {"mask": flat},
        "parts": {"mask": flat + 1},
        "depth": {"depth": np.linspace(1, 9, 600).reshape(20, 30)},
        "normals": {"normals": up},
    }
    pictures = drawn(GREY, answers)
    assert pictures.keys() == {MAIN, "parts", "depth", "normals"}
    assert (np.asarray(pictures[MAIN]) == 100).all()
    assert (np.asarray(pictures["normals"]) == [128, 128, 255]).all()
    near, far = np.asarray(pictures["depth"]).astype(int)[[0, -1], [0, -1]]
    assert near.sum() > far.sum()


def test_depths_are_coloured_in_the_scale_of_the_labels():
    like = np.linspace(1, 9, 100).reshape(10, 10)
    assert (depth_colours(like * 0 + 0.5, like) == depth_colours(like * 0 + 1, like)).all()
    assert (depth_colours(np.zeros((1, 1)), like) == 128).all()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"class": "cat", "probability": 0.975}, "cat 0.97"),
        ({"labels": []}, "none"),
        ({"mask": [[0]], "shares": {"a": 0.25, "b": 0.75, "c": 0.0}}, "b 75.0%, a 25.0%"),
        ({"box": [1, 2.04, 3, 4]}, "1.0, 2.0, 3.0, 4.0"),
        ({"boxes": [{"class": "x", "score": 0.9}] * 7}, "x 0.90, " * 5 + "2 more"),
        ({"values": {"age": 31.25}}, "age 31.25"),
        ({"depth": [[1.0]], "median_depth": 1.5}, "median depth 1.5"),
        ({"normals": [[[0.0, 0.6, 0.8]]]}, "mean normal +0.00 +0.60 +0.80"),
    ],
)  # fmt: skip
def test_answers_in_words(answer, words):
    assert in_words(answer) == words


def test_a_written_picture_keeps_its_shape_and_a_small_one_is_enlarged(tmp_path):
    answers = {"what": {"mask": np.ones((20, 30), int), "shares": {"a": 0.0, "<b>": 1.0}}}
    (file,) = write_overlay(GREY, answers, tmp_path / "new", "photo")
    assert file == tmp_path / "new" / "photo.png"
    with Image.open(file) as picture:
        assert picture.size == (30 * 16, 20 * 16)
    (large,) = write_overlay(np.zeros((300, 480, 1), np.uint8), {}, tmp_path, "large")
    with Image.open(large) as picture:
        assert picture.size == (480, 300)


def test_a_second_mask_is_explained_on_its_own_picture_alone(tmp_path):
    """Two tasks use the same colours: on the picture of the one, the other's would mislead."""
    one = {"mask": np.ones((20, 30), int), "shares": {"sky": 0.0, "road": 1.0}}
    other = {"mask": np.zeros((20, 30), int), "shares": {"rest": 0.0, "mover": 1.0}}
    both = write_overlay(GREY, {"what": one, "who": other}, tmp_path, "both")
    alone = write_overlay(GREY, {"what": one}, tmp_path, "alone")
    assert [file.name for file in both] == ["both.png", "both-who.png"]
    assert both[0].read_bytes() == alone[0].read_bytes()


def test_a_mask_whose_parts_have_no_shares_is_drawn_without_a_legend(tmp_path):
    (file,) = write_overlay(GREY, {"parts": {"mask": np.ones((20, 30), int)}}, tmp_path, "photo")
    with Image.open(file) as picture:
        assert len(picture.getcolors()) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--overlay: .* cannot be written: "):
        write_overlay(GREY, {}, tmp_path / "file" / "below", "photo")

"""The word on a task: shares must beat the best constant guess clearly, errors must be below it."""

import math

import pytest

from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.depth import Depth, DepthOptions
from polytask.training.evaluation import Scores
from polytask.training.health import health_of

READ = Classification("it", ClassificationOptions(kind="classification"))
DEEP = Depth("it", DepthOptions(kind="depth"))


@pytest.mark.parametrize(
    ("task", "value", "chance", "word"),
    [
        (READ, 0.61, 0.5, "learning"),  # two standard errors of a share of a half are 0.1
        (READ, 0.59, 0.5, "at_chance"),
        (READ, 0.1, 0.5, "at_chance"),
        (DEEP, 0.9, 1.1, "learning"),
        (DEEP, 3.0, 1.1, "at_chance"),
        (DEEP, 3.0, None, "learning"),
        (DEEP, math.nan, 1.1, "diverged"),
    ],
)
def test_health(task, value, chance, word):
    known = {} if chance is None else {"it": {task.primary: chance}}
    scores = Scores({"it": {task.primary: value}}, counts={"it": 100}, chance=known)
    assert health_of(task, scores, labelled_images_seen=5) == word
    assert health_of(task, scores, labelled_images_seen=0) == "no_labels"

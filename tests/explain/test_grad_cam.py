"""Grad-CAM: the equations on a path small enough to compute by hand."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from polytask import registry
from polytask.errors import UserError
from polytask.explain.grad_cam import NO_CLASS, NO_MAP, Heat, grad_cam, score_of
from polytask.tasks.task import Task


class Path(nn.Module):
    """Two units and a head, as paths tell them."""

    def __init__(self, head):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Sequential(nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU())
        self.head = head

    def forward(self, images):
        return self.head(self.second(self.first(images)))

    def parts(self):
        return {"first": self.first, "second": self.second, "head": self.head}


def linear_path():
    return Path(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)))


def test_follows_the_equations():
    """With a pooled linear head the slope of a logit is its weight, spread evenly (eq. 1)."""
    path, images = linear_path(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        path.head[2].weight.abs_()  # so that some cell speaks for the answer
    heat = grad_cam(path, images, "second")
    with torch.no_grad():
        maps = path.second(path.first(images))
        best = path(images).argmax()
        weight = path.head[2].weight[best] / (4 * 4)
        wanted = torch.einsum("c,chw->hw", weight, maps[0]).relu()
    assert heat.unit == "second"
    assert_close(heat.cells, wanted / wanted.max())


def test_the_deepest_map_of_some_size_is_looked_at():
    assert grad_cam(linear_path(), torch.randn(1, 3, 8, 8)).unit == "second"
    assert grad_cam(linear_path(), torch.randn(1, 3, 6, 6)).unit == "first"  # the second has 3 × 3


def test_a_map_of_scores_is_not_what_is_looked_at():
    """A dense head gives a map, too; it would show the answer, not what speaks for it."""
    assert grad_cam(Path(nn.Conv2d(5, 3, 1)), torch.randn(1, 3, 8, 8)).unit == "second"


def test_what_lies_outside_does_not_glow():
    """A unit's map that is zero but in one corner gives no heat elsewhere."""
    path, images = linear_path(), torch.zeros(1, 3, 16, 16)
    with torch.no_grad():
        path.first.bias.zero_()
        path.second[0].bias.zero_()
        path.head[2].weight.abs_()
    images[:, :, :4, :4] = torch.randn(3, 4, 4)
    heat = grad_cam(path, images, "second").cells
    assert heat[4:, 4:].abs().max() == 0
    assert heat[:3, :3].max() == 1


def test_segmentation_adds_up_the_pixels_that_are_not_background():
    logits = torch.tensor([[[[3.0, 1.0]], [[0.0, 2.0]]]])  # background, then class 1
    assert score_of(logits).item() == 2.0


def test_what_chooses_no_class_has_no_heat():
    assert score_of({"box": torch.zeros(1, 4)}) is None
    assert grad_cam(Path(nn.Flatten(0)), torch.randn(1, 3, 8, 8)) == NO_CLASS


def test_where_no_part_gives_a_map_it_is_told():
    path = linear_path()
    path.parts = lambda: {"head": path.head}
    assert grad_cam(path, torch.randn(1, 3, 8, 8)) == NO_MAP


def test_tokens_give_the_heat_of_the_map_they_fold_into():
    """A unit that hands on (tokens, grid), one token more than the map has cells."""

    class Tokens(nn.Module):
        def forward(self, found):
            tokens = torch.cat([torch.ones(1, 1, 5), found.flatten(2).mT], dim=1)
            return tokens, torch.empty(*found.shape[2:], 0)

    class TokenPath(Path):
        def forward(self, images):
            return self.head(self.feature(self.second(self.first(images))))

        def feature(self, state):
            return state[0][:, 1:].mT.unflatten(2, state[1].shape[:2])

    path, images = linear_path(), torch.randn(1, 3, 8, 12)
    tokens = TokenPath(path.head)
    tokens.first, tokens.second = path.first, nn.Sequential(path.second, Tokens())
    expected, found = grad_cam(path, images), grad_cam(tokens, images)
    assert (found.unit, found.cells.shape) == ("second", (4, 6))
    assert_close(found.cells, expected.cells)


def test_numbers_are_no_scores_of_classes():
    """Their predictions have the shapes of logits: four edges, values, three components a pixel."""
    kinds = (
        "classification",
        "multilabel",
        "segmentation",
        "box",
        "regression",
        "depth",
        "normals",
    )
    chosen = {kind: registry.load("tasks", kind, Task).chooses for kind in kinds}
    assert [kind for kind, chooses in chosen.items() if chooses] == list(kinds[:3])


def test_an_unknown_unit_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r'"secnd".*Did you mean "second"'):
        grad_cam(linear_path(), torch.randn(1, 3, 8, 8), "secnd")


def test_weights_keep_no_gradient():
    path = linear_path()
    grad_cam(path, torch.randn(1, 3, 8, 8))
    assert all(parameter.grad is None for parameter in path.parameters())


def test_the_veil_is_red_where_it_is_hot_and_leaves_the_rest():
    cells = torch.tensor([[1.0, 0.0]])
    grey = torch.full((2, 8, 1), 100, dtype=torch.uint8).numpy()
    drawn = Heat("unit", cells).over(grey)
    assert drawn.shape == (2, 8, 3)
    assert drawn[0, 0].tolist() == [193, 58, 40]  # 0.4 · 100 + 0.6 · (255, 30, 0)
    assert drawn[0, -1].tolist() == [100, 100, 100]

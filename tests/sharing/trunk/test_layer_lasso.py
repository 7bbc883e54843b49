"""The mixture of units that a task reads."""

from __future__ import annotations

import pytest
import torch
from networks import TINY, a_batch, build, gradients, only, predictions, total_loss
from torch.testing import assert_close

from polytask.errors import UserError
from polytask.sharing.trunk.layer_lasso import Mixture

CLASSES = {"a": 2, "b": 3}
MOBILENET = {"name": "mobilenet_v2", "width": 0.1, "stem": "small"}


def test_worked_example():
    mixture = Mixture(3)
    assert torch.equal(mixture.a.data, torch.full((3,), 1 / 3))
    mixture.a.data = torch.tensor([0.5, 0.25, 0.25])
    maps = [torch.tensor(pair).reshape(1, 2, 1, 1) for pair in ((1.0, 2.0), (3.0, 0.0), (0.0, 1.0))]
    (found,) = mixture(maps)
    assert_close(found.flatten(), torch.tensor([1.25, 1.25]))
    assert mixture.penalty().item() == 1.0


def test_one_hot_on_the_last_unit_without_penalty_is_joint_training():
    method = build("layer_lasso", CLASSES, {"l1": 0.0})
    hard = build("hard", CLASSES)
    for task in CLASSES:
        method.tails[task].a.data = torch.tensor([0.0, 1.0])
    batch = a_batch(method)
    ours, theirs = (predictions(m, batch) for m in (method, hard))
    assert all(torch.equal(ours[task], theirs[task]) for task in CLASSES)
    grads = gradients(method.train(), total_loss(method, batch))
    wanted = gradients(hard.train(), total_loss(hard, batch))
    assert set(grads) - set(wanted) == {"tails.a.a", "tails.b.a"}
    assert all(torch.equal(grads[name], wanted[name]) for name in wanted)


def test_the_penalty_pulls_every_weight_towards_0_by_l1():
    method = build("layer_lasso", CLASSES, {"l1": 0.01})
    batch = only(a_batch(method), "a")
    (term,) = method.extra_losses(batch, method(batch))
    assert_close(term.value.item() * term.weight, 0.01)
    term.value.backward()
    assert torch.equal(method.tails["a"].a.grad, torch.ones(2))
    assert method.tails["b"].a.grad is None


def test_units_of_the_chosen_stage_with_its_shape_are_mixed():
    assert build("layer_lasso", CLASSES).mixed == ["layer4.0", "layer4.1"]
    assert build("layer_lasso", CLASSES, {"stage": "layer2"}).mixed == ["layer2.0", "layer2.1"]
    mobilenet = build("layer_lasso", CLASSES, {"stage": "stage4"}, backbone=MOBILENET)
    assert mobilenet.mixed == ["features.11", "features.12", "features.13"]


def test_without_colour_equal_lightness_is_all_there_is():
    method = build("layer_lasso", CLASSES, {"grey": True}).eval()
    batch = a_batch(method)
    before = predictions(method, batch)
    images = batch.groups[0].images
    paths = {task: method.path(task)(images) for task in CLASSES}
    images += torch.tensor([0.587, -0.299, 0.0]).view(3, 1, 1)  # redder and less green, as light
    after = predictions(method, batch)
    for task in CLASSES:
        assert_close(after[task], before[task])
        assert_close(paths[task], before[task])
    plain = build("layer_lasso", CLASSES).eval()
    plain.load_state_dict(method.state_dict())
    assert not torch.allclose(predictions(plain, batch)["a"], after["a"])


def test_what_tasks_read_is_told():
    method = build("layer_lasso", CLASSES)
    method.tails["b"].a.data = torch.tensor([0.25, 0.75])
    told = method.explained()["layer_lasso"]
    assert told == {
        "units": ["layer4.0", "layer4.1"],
        "mixture": {"a": [0.5, 0.5], "b": [0.25, 0.75]},
    }


def test_an_earlier_stage_leaves_the_rest_of_the_trunk_out():
    method = build("layer_lasso", CLASSES, {"stage": "layer2"})
    assert [name for name, _ in method.units_of("a")][-1] == "layer2.1"


@pytest.mark.parametrize(
    ("options", "backbone", "text"),
    [
        ({"stage": "layer9"}, TINY, '"layer9"'),
        ({}, MOBILENET, "stage5 has only features.18"),
    ],
)
def test_stages_without_a_choice_are_told(options, backbone, text):
    with pytest.raises(UserError, match=text) as error:
        build("layer_lasso", CLASSES, options, backbone=backbone)
    assert error.value.faults[0].where == "stage"
    assert "layer2" in str(error.value) or "stage4" in str(error.value)

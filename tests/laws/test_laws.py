"""Every sharing method keeps the laws, on every small backbone and batch shape."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import asserts
import pytest
import torch
from worlds import (
    BACKBONES,
    CONVOLUTIONAL,
    FREE_OF_NORM,
    REFUSALS,
    SHAPES,
    TASKS,
    VARIANTS,
    World,
    every_combination,
)

from polytask import registry
from polytask.errors import UserError
from polytask.explain.grad_cam import Heat, grad_cam
from polytask.sharing.grouped import inner_name
from polytask.sharing.method import SharingMethod

SERVED = [world for world in every_combination() if not world.is_refused]
each_world = pytest.mark.parametrize("world", SERVED, ids=str)
# The networks of `single_input` are those of `integrated`; tokens add nothing to what is kept.
NETWORKS = [w for w in SERVED if w.shape != "single_input" and w.backbone != "small_vit"]
each_network = pytest.mark.parametrize("world", NETWORKS, ids=str)


@cache
def stirred(world_id: str) -> SharingMethod:
    """Built once for all laws that leave it as it is."""
    return next(world for world in SERVED if str(world) == world_id).stirred()


@each_world
@torch.no_grad()
def test_path_is_the_joint_output(world):
    asserts.assert_path_is_the_joint_output(stirred(str(world)), world.batch())


@pytest.mark.parametrize("world", [w for w in SERVED if w.backbone == "small_vit"], ids=str)
def test_tokens_fold_into_a_map_to_look_at(world):
    path = stirred(str(world)).path("animal")
    heat = grad_cam(path, torch.randn(1, 3, 16, 16))
    assert isinstance(heat, Heat)
    assert heat.cells.shape == (4, 4)


@each_world
def test_gradient_stays_in_view(world):
    asserts.assert_gradient_stays_in_view(world.method(), world.batch())


@each_world
@torch.no_grad()
def test_unlabelled_images_change_nothing(world):
    asserts.assert_unlabelled_images_change_nothing(stirred(str(world)), world.batch())


@pytest.mark.parametrize("world", [w for w in SERVED if w.backbone in FREE_OF_NORM], ids=str)
def test_unlabelled_images_change_nothing_in_training_without_norm(world):
    asserts.assert_unlabelled_images_change_nothing(world.method().train(), world.batch())


@each_world
@pytest.mark.parametrize("is_listed", [True, False], ids=["empty", "absent"])
def test_a_task_without_labels_is_silent(world, is_listed):
    batch = world.batch()
    asserts.assert_a_task_without_labels_is_silent(world.method(), batch, "marks", is_listed)


@each_network
@torch.no_grad()
def test_saved_weights_predict_the_same(world, tmp_path):
    other = replace(world, seed=1).method()
    batch = world.batch()
    asserts.assert_saved_weights_predict_the_same(stirred(str(world)), other, batch, tmp_path)


@each_network
def test_cost_is_counted(world):
    asserts.assert_cost_is_counted(stirred(str(world)), world.batch())


@pytest.mark.parametrize(
    "world",
    [w for w in NETWORKS if w.shape == "integrated" and "drop_rows" in w.kind.Options.model_fields],
    ids=str,
)
@torch.no_grad()
def test_drop_rows_changes_no_prediction(world):
    without = world.with_options(drop_rows=False).method().eval()
    without.load_state_dict(stirred(str(world)).state_dict())
    batch = world.batch()
    asserts.assert_drop_rows_changes_no_prediction(stirred(str(world)), without, batch)


@pytest.mark.parametrize("world", [w for w in NETWORKS if w.shape == "integrated"], ids=str)
def test_same_seed_same_weights(world):
    torch.manual_seed(0)
    first = world.method().state_dict()
    torch.manual_seed(1)
    asserts.assert_same_weights(first, world.method().state_dict())
    other = replace(world, seed=1).method().state_dict()
    drawn = [n for n in first if inner_name(n).startswith("heads.") and n.endswith("weight")]
    assert drawn
    assert all(not torch.equal(first[n], other[n]) for n in drawn)


@pytest.mark.parametrize("backbone", CONVOLUTIONAL)
@pytest.mark.parametrize("shape", SHAPES)
def test_columns_and_trunk_start_alike(backbone, shape):
    """Backbones of one seed start from the same weights, heads from the seed and the task."""
    single, hard = (World(name, backbone, shape).method() for name in ("single", "hard"))
    trunk = hard.backbone.state_dict()
    for task in TASKS:
        asserts.assert_same_weights(single.columns[task].state_dict(), trunk)
        heads = single.heads[task].state_dict(), hard.heads[task].state_dict()
        asserts.assert_same_weights(*heads)


@pytest.mark.parametrize("backbone", CONVOLUTIONAL)
def test_independent_columns_differ_and_repeat(backbone):
    world = World("single", backbone, "integrated", init="independent")
    single, again = world.method(), world.method()
    asserts.assert_same_weights(single.state_dict(), again.state_dict())
    first = [next(iter(single.columns[task].parameters())) for task in TASKS]
    assert not any(torch.equal(first[0], other) for other in first[1:])


@pytest.mark.parametrize("name", registry.names("sharing"))
def test_refusals_are_declared(name):
    """A method refuses what the table says, with a reason, and nothing else."""
    for shape in SHAPES:
        for options in VARIANTS.get(name, [{}]):
            world = World(name, "resnet18", shape, options)
            setting = world.setting()
            reason = world.kind.refuses(setting, world.checked_options(setting))
            declared = REFUSALS.get((name, shape), REFUSALS.get((name, None)))
            if declared is None:
                assert reason is None
            else:
                assert reason is not None
                assert declared in reason


@pytest.mark.parametrize(("name", "backbone"), [k for k in REFUSALS if k[1] in BACKBONES])
def test_refused_backbones_are_declared(name, backbone):
    world = World(name, backbone, "integrated", VARIANTS.get(name, [{}])[0])
    with pytest.raises(UserError, match=REFUSALS[name, backbone]):
        world.method()


def test_every_method_with_variants_exists():
    assert set(VARIANTS) | {name for name, _ in REFUSALS} <= set(registry.names("sharing"))

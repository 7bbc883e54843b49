"""Columns with links: what runs, on which images, and whose gradient goes where."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from polytask.batch import Batch, Group, Target
from polytask.errors import UserError


def ran(method, batch):
    """How many images each unit of each column saw."""
    seen = {}
    hooks = [
        unit.register_forward_pre_hook(
            lambda _, args, at=f"{column}/{name}": seen.update({at: len(args[0])})
        )
        for column, backbone in method.columns.items()
        for name, unit in backbone
    ]
    with torch.no_grad():
        method(batch)
    for hook in hooks:
        hook.remove()
    return seen


def asked(method, batch):
    """The outputs that each link was asked for, by its name."""
    calls = {}
    hooks = [
        link.register_forward_pre_hook(
            lambda _, args, name=name: calls.setdefault(name, []).append(list(args[1]))
        )
        for name, link in method.links.items()
    ]
    with torch.no_grad():
        method(batch)
    for hook in hooks:
        hook.remove()
    return calls


FIRST, LAST = "block1", "block5"


def test_columns_run_as_far_as_a_link_reads_them(build, batch_for):
    method = build("cross_stitch", {"where": ["block2"]}, tasks=3).eval()
    seen = ran(method, batch_for(method, {"a": None}))
    for column in "bc":
        assert [n for n in method.names if f"{column}/{n}" in seen] == ["features.0", "features.3"]
    assert [n for n in method.names if f"a/{n}" in seen] == method.names
    assert [step.runs for step in method.steps["a"]][:3] == [("a", "b", "c")] * 2 + [("a",)]


def test_behind_the_last_link_a_column_runs_its_own_images(build, batch_for):
    """Images 0 and 1 want `a`, 1 and 2 want `b`, 3 wants nothing."""
    method = build("cross_stitch", {"where": ["block1"]}).eval()
    seen = ran(method, batch_for(method, {"a": [0, 1], "b": [1, 2]}))
    assert seen["a/features.0"] == seen["b/features.0"] == 3
    assert seen["a/features.3"] == seen["b/features.3"] == 2


def test_links_give_what_is_read(build, batch_for):
    method = build("cross_stitch", {"where": [FIRST, LAST]}, tasks=3).eval()
    assert asked(method, batch_for(method, {"b": None})) == {
        "features_0": [[0, 1, 2]],
        "features_18": [[1]],
    }
    assert asked(method, batch_for(method)) == {
        "features_0": [[0, 1, 2]],
        "features_18": [[0, 1, 2]],
    }


def test_images_of_each_task_go_through_all_columns_at_their_size(build, batch_for):
    """28×28 and 64×64: a link needs equal maps of the images it mixes, not of all."""
    sizes = [(3, 28, 28), (3, 64, 64)]
    method = build("cross_stitch", sizes=sizes, backbone="resnet18", network={"stem": "small"})
    batch = batch_for(method, count=2)
    before = {n: b.clone() for n, b in method.named_buffers() if "running_mean" in n}
    predictions = method(batch).predictions
    torch.stack([p.square().sum() for p in predictions.values()]).sum().backward()
    assert all(p.grad is not None for p in method.parameters())
    moved = {n for n, b in method.named_buffers() if n in before and not torch.equal(b, before[n])}
    assert moved == set(before)  # every column has statistics of every stream
    method.eval()
    with torch.no_grad():
        together = method(batch).predictions
        for task, group in zip("ab", batch.groups, strict=True):
            assert_close(method.path(task)(group.images), together[task])


@pytest.mark.parametrize("name", ["cross_stitch", "nddr", "snr"])
def test_images_of_other_channels_cannot_share_columns(build, name):
    with pytest.raises(AssertionError, match="as many channels"):
        build(name, sizes=[(1, 16, 16), (3, 16, 16)])


def test_links_between_the_convolutions_of_a_block(build, batch_for):
    """A state inside an opened block carries the shortcut's input; a link changes the map alone."""
    network = {"stem": "small", "open": ("layer2.0",)}
    where = {"where": ["layer2.0.conv1"]}
    method = build("cross_stitch", where, backbone="resnet18", network=network).eval()
    batch = batch_for(method)
    together = method(batch).predictions
    for task in "ab":
        assert_close(method.path(task)(batch.groups[0].images), together[task])
    seen = ran(method, batch_for(method, {"a": None}))
    assert "b/layer2.0.conv1" in seen
    assert "b/layer2.0.conv2" not in seen


def test_a_unit_that_does_not_exist(build):
    with pytest.raises(UserError, match='"blok2"') as error:
        build("cross_stitch", {"where": ["blok2"]})
    assert error.value.faults[0].where == "where"
    assert '"block2"' in error.value.faults[0].hint


def test_the_deepest_that_tasks_share(build):
    method = build("cross_stitch", {"where": ["block2", "block3"]})
    shared = {name for name, p in method.named_parameters() if p in method.last_shared()}
    units = ("columns.a.units.features_8.", "columns.b.units.features_8.", "links.features_8.")
    assert shared
    assert all(name.startswith(units) for name in shared)
    assert {name.split(".")[1] for name in shared} == {"a", "b", "features_8"}
    assert build("single").last_shared() == set()


def test_several_views_of_an_image_stay_together(build):
    """Tiles of one image are neighbours: a head gets [R, V, C, H, W] of the labelled images."""
    method = build("cross_stitch", {"matrix": [[1, 0], [0, 1]]}).eval()
    for task in "ab":
        method.heads[task] = nn.Identity()
    images = torch.randn(4 * 3, 3, 16, 16)
    targets = {"a": Target(rows=torch.tensor([1, 3])), "b": Target()}
    group = Group(images, torch.arange(4), "s0", targets, views=3)
    with torch.no_grad():
        found = method(Batch([group])).predictions
        whole = method.columns["a"](images).unflatten(0, (4, 3))
    assert_close(found["a"], whole[[1, 3]])
    assert_close(found["b"], whole)


@pytest.mark.parametrize("name", ["cross_stitch", "nddr", "snr", "kernel_sharing", "mtda"])
def test_methods_train_on_images_of_different_sizes(config, run_in, name):
    result, _ = run_in(config([name], epochs=1), name)
    assert set(result["tasks"]) == {"read_handwriting", "read_print"}
    assert result["samples"]["read_print"] > 0

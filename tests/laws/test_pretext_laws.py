"""The laws hold for tasks that make their own inputs: streams of their own, several views."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import asserts
import numpy as np
import pytest
import torch
from worlds import World

from polytask import registry, tasks
from polytask.batch import Batch, Group, Input, Target
from polytask.data.making import Raw
from polytask.data.prepare import CENTRED
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import PretextTask, Task

SEEN = Input(3, 16, 16)
KINDS = {
    "turn": {"kind": "rotation", "hidden": 8},
    "puzzle": {"kind": "jigsaw", "grid": 2, "hidden": 8},
    "again": {"kind": "reconstruction"},
    "same": {"kind": "simsiam", "hidden": 8, "outputs": 8, "bottleneck": 4},
    "taught": {"kind": "dino", "hidden": 8, "outputs": 8, "answers": 8},
}
FEW = ("again", "same", "taught")  # where every task has a column, all columns run on all images
EXITS = dict(zip(KINDS, (1, 3, 2, 2, 3), strict=True))  # by the number of a stage


def pretext_tasks(names: Iterable[str]) -> dict[str, Task]:
    kinds = {name: registry.load("tasks", str(KINDS[name]["kind"]), Task) for name in names}
    return tasks.build({name: kind.Options(**KINDS[name]) for name, kind in kinds.items()})


class PretextWorld(World):
    """Pretext tasks on the same images."""

    @property
    def names(self) -> Iterable[str]:
        return FEW if self.name == "cross_stitch" else KINDS

    def setting(self) -> Setting:
        made = pretext_tasks(self.names)
        return replace(
            super().setting(),
            tasks=made,
            streams={name: task.input(SEEN) for name, task in made.items()},
            stream_of={name: name for name in made},
        )

    def batch(self, seed: int = 0) -> Batch:
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 3, 16, 16), np.uint8)
        index = np.arange(4)
        groups = []
        for name, task in pretext_tasks(self.names).items():
            assert isinstance(task, PretextTask)
            raw = Raw(pixels, index, 0 * index, seed, index, pixels.__getitem__)
            made = task.make(raw)
            images = made.images if made.images.is_floating_point() else CENTRED(made.images)
            target = {name: Target(made.target)}
            groups.append(Group(images, torch.arange(4), name, target, task.views))
        return Batch(groups)


SERVED = [
    PretextWorld(name, "resnet18", "integrated", options)
    for name, options in [
        ("hard", {}),
        ("hard", {"filter": True}),
        ("layer_lasso", {}),
        ("multi_exit", {"exits": EXITS}),
        ("single", {}),
        ("cross_stitch", {}),
        ("mmoe", {"experts": 2}),
    ]
]
each_world = pytest.mark.parametrize("world", SERVED, ids=str)


@cache
def stirred(world_id: str) -> SharingMethod:
    return next(world for world in SERVED if str(world) == world_id).stirred()


@each_world
@torch.no_grad()
def test_path_is_the_joint_output(world):
    asserts.assert_path_is_the_joint_output(stirred(str(world)), world.batch())


@each_world
def test_gradient_stays_in_view(world):
    asserts.assert_gradient_stays_in_view(world.method(), world.batch())


@each_world
@torch.no_grad()
def test_unlabelled_images_change_nothing(world):
    asserts.assert_unlabelled_images_change_nothing(stirred(str(world)), world.batch())


@each_world
def test_a_task_without_labels_is_silent(world):
    asserts.assert_a_task_without_labels_is_silent(
        world.method(), world.batch(), "again", is_listed=False
    )


@each_world
@torch.no_grad()
def test_saved_weights_predict_the_same(world, tmp_path):
    other = replace(world, seed=1).method()
    asserts.assert_saved_weights_predict_the_same(
        stirred(str(world)), other, world.batch(), tmp_path
    )


@each_world
def test_cost_is_counted(world):
    asserts.assert_cost_is_counted(stirred(str(world)), world.batch())

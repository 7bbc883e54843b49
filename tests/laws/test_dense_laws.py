"""The laws hold for heads that read several maps and for targets that are dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import asserts
import pytest
import torch
from torch.nn.functional import normalize
from worlds import BACKBONES, VARIANTS, World

from polytask import backbones, registry, tasks
from polytask.batch import Batch, Group, Input, Target
from polytask.errors import UserError
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

SIZE = Input(3, 16, 24)
SHOP = {"outline": [0, 2, 3], "where": [1, 2], "product": [0, 1, 4]}
ROOMS = {"far": [0, 2, 3], "facing": [1, 2], "age": [0, 1, 4]}
OPTIONS = {
    "outline": {"kind": "segmentation", "classes": 3, "width": 4},
    "where": {"kind": "box", "hidden": 8},
    "product": {"kind": "classification", "classes": 4},
    "far": {"kind": "depth", "width": 4, "decoder": "unet"},
    "facing": {"kind": "normals", "width": 4, "decoder": "deeplab"},
    "age": {"kind": "regression", "label": ["years"]},
    "things": {"kind": "detection", "classes": 2, "width": 8},
    "group": {"kind": "clustering", "classes": 3, "width": 4},
}
FOUND = {"things": [0, 2, 5], "group": [1, 3, 4], "product": [0, 1, 4]}
# A backbone that decodes, which serves images no smaller than 32 × 32.
SEGNET = partial(backbones.build, "residual_segnet", width=0.0625, stem="small")
LARGER = Input(3, 32, 64)
# Every method with its defaults runs on it, but for these options and these refusals.
DECODED: dict[str, dict[str, Any]] = {
    "cross_stitch": {"tied": "stem"},
    "mmoe": {"experts": 2},
    "multi_path": {"distill": False},
    "nested_net": {"scheme": "weight"},
}
NOT_DECODED = {
    "adashare": "no unit of this backbone has a shortcut",
    "kernel_sharing": "the decoder of outline finds no kernels",
    "layer_lasso": "no stage of this backbone has two units",
    "mtda": "outline is segmentation",
    "nested_net": "ConvTranspose2d narrower",  # with its defaults
}
IN_ROOMS = ("single", "hard", "mtan", "cross_stitch")


def dense_tasks(names: Iterable[str], **more: Any) -> dict[str, Task]:
    """Tasks with labels on the image, a class or a number; none has data."""
    options: dict[str, Any] = {name: OPTIONS[name] for name in names}
    options = {n: {**o, **more} if n in ("outline", "far") else o for n, o in options.items()}
    kinds = {name: registry.load("tasks", str(o["kind"]), Task) for name, o in options.items()}
    return tasks.build({name: kinds[name].Options(**o) for name, o in options.items()})


@dataclass(frozen=True)
class DenseWorld(World):
    """Partial labels of three kinds on images that are not square."""

    rows: Mapping[str, list[int]] = field(default_factory=lambda: SHOP)

    def __str__(self) -> str:
        return f"{super().__str__()}-{'-'.join(self.rows)}"

    @property
    def size(self) -> Input:
        return LARGER if self.backbone == "residual_segnet" else SIZE

    def setting(self) -> Setting:
        if self.backbone == "residual_segnet":
            tasks, network = dense_tasks(self.rows, decoder="conv"), SEGNET
        else:
            tasks, network = dense_tasks(self.rows), BACKBONES[self.backbone]
        return Setting(
            tasks=tasks,
            backbone=network,
            streams={"photos": self.size},
            stream_of=dict.fromkeys(self.rows, "photos"),
        )

    def batch(self, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        image = (self.size.channels, self.size.height, self.size.width)
        images = torch.randn(6, *image, generator=generator)
        mask = torch.randint(0, 3, (3, *image[1:]), generator=generator)
        mask[:, :2] = 255
        corner = torch.rand(2, 2, generator=generator) * 8
        boxes = torch.cat([corner, corner + 1 + torch.rand(2, 2, generator=generator) * 6], dim=1)
        size = torch.tensor([[image[2], image[1]]]).float().repeat(2, 1)
        values = {
            "outline": {"mask": mask},
            "where": {"boxes": boxes, "size": size},
            "product": torch.randint(0, 4, (3,), generator=generator),
            "far": {"depth": torch.rand(3, *image[1:], generator=generator)},
            "facing": {"normals": normalize(torch.randn(2, *image, generator=generator), dim=1)},
            "age": torch.tensor([[30.0], [5.0], [60.0]]),
            "things": {
                "boxes": torch.stack([boxes, boxes.flip(0), boxes]),
                "classes": torch.tensor([[0, -1], [1, 0], [-1, -1]]),
                "size": size[:1].repeat(3, 1),
            },
            "group": {"class": torch.tensor([0, -1, 2])},
        }
        targets = {t: Target(values[t], torch.tensor(rows)) for t, rows in self.rows.items()}
        return Batch([Group(images, torch.arange(6), "photos", targets)])


def served() -> list[DenseWorld]:
    """The methods that take heads with several maps; the others say that they do not."""
    found = [DenseWorld("hard", "small_vit", "integrated")]
    found += [DenseWorld(name, "resnet18", "integrated", rows=ROOMS) for name in IN_ROOMS]
    found += [DenseWorld(name, "resnet18", "integrated", rows=FOUND) for name in IN_ROOMS]
    found += [
        DenseWorld(name, "residual_segnet", "integrated", DECODED.get(name, {}))
        for name in registry.names("sharing")
        if name in DECODED or name not in NOT_DECODED
    ]
    for name in registry.names("sharing"):
        world = DenseWorld(name, "resnet18", "integrated", VARIANTS.get(name, [{}])[0])
        setting = world.setting()
        if world.kind.refuses(setting, world.checked_options(setting)) is None:
            found.append(world)
    return found


SERVED = served()
REFUSING = sorted(
    set(registry.names("sharing")) - {w.name for w in SERVED if w.backbone == "resnet18"}
)
each_world = pytest.mark.parametrize("world", SERVED, ids=str)


@cache
def stirred(world_id: str) -> SharingMethod:
    return next(world for world in SERVED if str(world) == world_id).stirred()


def test_the_families_serve_dense_tasks():
    assert {"single", "hard", "multi_exit", "mtan"} <= {world.name for world in SERVED}


@pytest.mark.parametrize("name", REFUSING)
def test_what_does_not_serve_them_says_why(name):
    world = DenseWorld(name, "resnet18", "integrated", VARIANTS.get(name, [{}])[0])
    setting = world.setting()
    reason = world.kind.refuses(setting, world.checked_options(setting))
    assert "outline" in reason


@pytest.mark.parametrize("name", NOT_DECODED)
def test_what_does_not_serve_a_backbone_that_decodes_says_why(name):
    world = DenseWorld(name, "residual_segnet", "integrated")
    setting = world.setting()
    options = world.checked_options(setting)
    reason = world.kind.refuses(setting, options)
    if reason is None:
        with pytest.raises(UserError) as error:
            world.kind(setting, options)
        (reason,) = map(str, error.value.faults)
    assert NOT_DECODED[name] in reason
    assert "\n" not in reason


def test_experts_end_where_a_task_that_answers_per_image_leaves():
    method = DenseWorld("mmoe", "residual_segnet", "integrated", {"experts": 2}).method()
    paths = {task: method.path(task).state_dict() for task in SHOP}
    assert any(".dec1." in name for name in paths["outline"])
    assert not any(".dec1." in name for name in paths["product"])
    assert method.last_shared() == {
        p for expert in method.experts.values() for p in expert.unit("enc5").parameters()
    }


@pytest.mark.parametrize("rows", [SHOP, dict(reversed(SHOP.items()))])
def test_tasks_per_image_leave_the_encoder_and_masks_the_decoder(rows):
    def world(name, **options):
        return DenseWorld(name, "residual_segnet", "integrated", options, rows=rows)

    exits = world("multi_exit").method().exits
    assert (exits["outline"], exits["where"], exits["product"]) == ("dec6", "enc4", "enc5")
    branches = world("multi_path", distill=False).method().branches
    first, last = (task for task in rows if task != "outline")
    assert (branches["outline"], branches[last]) == ("dec6", "enc5")
    assert branches[first] in ("enc4", "enc5")  # either side of half of the encoder's parameters
    for name, option in (("multi_exit", "exits"), ("multi_path", "branches")):
        made = world(name)
        setting = made.setting()
        space = made.kind.search_space(setting, made.checked_options(setting))
        assert space[f"{option}.product"] == [f"enc{i}" for i in range(1, 6)]
        assert space[f"{option}.outline"] == [f"dec{i}" for i in range(1, 7)]


@torch.no_grad()
def test_a_decoder_has_the_stitch_of_its_columns():
    """What the matrix gives the map of a task that has left goes to the row's own map."""
    rows = {"outline": [0, 2, 3], "product": [0, 1, 4], "far": [0, 2, 3]}
    matrix = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]]
    options = {"shared": True, "matrix": matrix}
    world = DenseWorld("cross_stitch", "residual_segnet", "integrated", options, rows=rows)
    stitches = {name: link.alpha for name, link in world.method().links.items()}
    wanted = {"shared": matrix, "shared_decoder": [[0.9, 0.1], [0.3, 0.7]]}
    assert stitches.keys() == wanted.keys()
    for name, alpha in wanted.items():
        torch.testing.assert_close(stitches[name], torch.tensor(alpha))
    asserts.assert_path_is_the_joint_output(world.stirred(), world.batch())


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
@pytest.mark.parametrize("absent", [0, 1])
def test_a_task_without_labels_is_silent(world, absent):
    batch, name = world.batch(), list(world.rows)[absent]
    asserts.assert_a_task_without_labels_is_silent(world.method(), batch, name, is_listed=True)


@each_world
def test_cost_is_counted(world):
    asserts.assert_cost_is_counted(stirred(str(world)), world.batch())

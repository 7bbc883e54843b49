"""A teacher's answer counts where the true one is known, for every kind that has one."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask import registry
from polytask.distill.soft_answers import SOFT
from polytask.distill.soft_targets import latent_loss, soft_target_loss
from polytask.tasks.task import Task


def task_of(kind, **options):
    chosen = registry.load("tasks", kind, Task)
    return chosen("look", chosen.Options(kind=kind, **options))


def random(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_the_worked_mix_of_soft_and_hard_targets():
    """The example of the published route: T = 4, w = ½, and the same for pooled channels."""
    student, teacher = (torch.tensor([z]).double() for z in ((1.0, 2.0, 0.5), (2.0, 1.0, 0.0)))
    soft = soft_target_loss(student, teacher, 4.0, t2=True).item()
    assert soft == pytest.approx(0.395115, abs=1e-6)
    assert soft / 16 == pytest.approx(0.024695, abs=1e-6)
    hard = -torch.log_softmax(student, -1)[0, 0].item()
    assert hard == pytest.approx(1.464369, abs=1e-6)
    assert (hard + soft) / 2 == pytest.approx(0.929742, abs=1e-6)
    assert latent_loss(student, teacher, 4.0).item() == pytest.approx(soft)


def test_every_pixel_has_soft_targets_but_the_ignored():
    own, taught = random(0, 2, 3, 2, 2), random(1, 2, 3, 2, 2)
    mask = torch.tensor([[[0, 255], [2, 1]], [[255, 255], [255, 255]]])
    found = SOFT["segmentation"](None, own, taught, {"mask": mask}, 3.0)
    wanted = 0.0
    for row, column in ((0, 0), (1, 0), (1, 1)):
        p, q = (torch.softmax(m[0, :, row, column] / 3.0, 0).tolist() for m in (taught, own))
        wanted += 9 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert_close(found, torch.tensor([wanted, 0.0]).double())


def unknown_half(kind):
    """A target of which the first of two images is known in part, the second not at all."""
    if kind == "depth":
        return {"depth": torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]]).double()}
    if kind == "normals":
        normals = torch.zeros(2, 3, 1, 2).double()
        normals[0, 2, 0, 0] = 1.0
        return {"normals": normals}
    return torch.tensor([[1.0, math.nan], [math.nan, math.nan]]).double()


def answers(kind, seed):
    drawn = random(seed, 2, 3, 1, 2)
    if kind == "depth":
        return drawn[:, 0].abs() + 0.5
    return torch.nn.functional.normalize(drawn, dim=1) if kind == "normals" else drawn[:, 0, 0]


@pytest.mark.parametrize("kind", ["depth", "normals", "regression"])
@given(st.integers(0, 1000))
def test_an_answer_without_a_distribution_is_a_label(kind, seed):
    """By hand at the one known place; where nothing is known the teacher says nothing; and a
    student that says the same has nothing to learn."""
    label = {"label": ["a", "b"]} if kind == "regression" else {"label": "a"}
    task, target = task_of(kind, **label), unknown_half(kind)
    if kind == "regression":
        task.spread = torch.ones(2)
    own, taught = answers(kind, seed), answers(kind, seed + 5000)
    found = SOFT[kind](task, own, taught, target, 4.0)
    a, b = own[0].flatten()[0], taught[0].flatten()[0]
    if kind == "normals":
        wanted = 1 - (own[0, :, 0, 0] * taught[0, :, 0, 0]).sum()
    elif kind == "depth":
        wanted = (1 / a - 1 / b).abs() if task.options.loss == "inverse" else (a - b).abs()
    else:
        wanted = (a - b).abs() if task.options.loss == "l1" else (a - b).square()
    assert_close(found, torch.stack([wanted, torch.zeros_like(wanted)]))
    assert_close(SOFT[kind](task, own, own, target, 4.0), torch.zeros(2).double())

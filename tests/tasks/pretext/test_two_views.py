"""Two views of an image: worked losses, a teacher that follows, a centre, and scores."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raw_images import raw_of, task_of
from torch import nn
from torch.testing import assert_close

from polytask.tasks.pretext.dino import cross_view_loss
from polytask.tasks.pretext.simsiam import symmetric_loss
from polytask.tasks.pretext.teacher import Teacher
from polytask.tasks.pretext.two_views import retrieved
from polytask.tasks.task import FeatureShape

KINDS = ("simsiam", "dino")
CLOSE = {"rtol": 0, "atol": 1e-6}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_distance_by_cosine_of_a_worked_pair():
    """cos((3, 4), (4, 3)) = 24/25 and cos((1, 0), (3, 4)) = 3/5; lengths do not matter."""
    p = double([[3.0, 4.0], [1.0, 0.0]])
    z = double([[3.0, 4.0], [4.0, 3.0]])
    assert_close(symmetric_loss(p, z), double(1 - (24 / 25 + 3 / 5) / 2), **CLOSE)
    assert_close(symmetric_loss(7 * p, z / 3), symmetric_loss(p, z))
    assert_close(symmetric_loss(z, z.flip(1)), double(0), **CLOSE)


def test_an_embedding_gets_no_gradient_but_through_its_prediction():
    p = torch.randn(3, 2, 4, requires_grad=True)
    z = torch.randn(3, 2, 4, requires_grad=True)
    symmetric_loss(p, z).sum().backward()
    assert p.grad.abs().sum() > 0
    assert z.grad is None


def test_the_distance_of_answers_worked():
    """Views answer (1, 0) and (0, 2); the teacher (0.1, 0) and (0.06, 0.1); c = (0.02, 0.02).

    At τ_t = 0.04 the targets are σ(2.5) and σ(−1) of the first answer; at τ_s = 0.5 the network's
    are σ(2) and σ(−4). Each view learns the target of the other.
    """
    student, teacher = double([[1.0, 0.0], [0.0, 2.0]]), double([[0.1, 0.0], [0.06, 0.1]])
    centre = double(0.02, 0.02)

    def entropy(target, found):
        p, q = (1 / (1 + math.exp(-x)) for x in (target, found))
        return -p * math.log(q) - (1 - p) * math.log(1 - q)

    wanted = (entropy(2.5, -4) + entropy(-1, 2)) / 2
    assert wanted == pytest.approx(2.651881, abs=1e-6)
    assert_close(cross_view_loss(student, teacher, centre, 0.5, 0.04), double(wanted), **CLOSE)


@given(st.integers(0, 10_000))
def test_answers_against_the_sum_written_out(seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 3, 2, 5, generator=generator).double()
    centre = torch.randn(5, generator=generator).double()
    found = cross_view_loss(student, teacher, centre, 0.1, 0.07)
    for b in range(3):
        total = 0.0
        for v, w in ((0, 1), (1, 0)):
            target = torch.softmax((teacher[b, v] - centre) / 0.07, 0)
            total -= float((target * torch.log_softmax(student[b, w] / 0.1, 0)).sum()) / 2
        assert float(found[b]) == pytest.approx(total)
    shifted = cross_view_loss(student + 3, teacher - 2, centre, 0.1, 0.07)
    assert_close(shifted, found)  # one number added to all answers changes nothing


def test_centring_spreads_targets_and_sharpening_narrows_them():
    """One answer above the others everywhere: centred, all are alike; uncentred, one is left."""
    teacher = double([[0.5, 0.0, 0.0, 0.0]] * 2)
    blunt = torch.zeros_like(teacher)  # a student that answers log ¼ whatever the target

    def target(centre, sharpening):
        leaning = torch.log(((teacher - centre) / sharpening).softmax(-1))
        loss = cross_view_loss(leaning, teacher, centre, 1.0, sharpening)
        return math.exp(float(loss[0]))  # of its entropy: as many answers as it spreads over

    assert target(teacher[0, 0], 0.04) == pytest.approx(4)
    assert target(0 * teacher[0, 0], 0.04) == pytest.approx(1, abs=1e-3)
    assert target(0 * teacher[0, 0], 0.04) < target(0 * teacher[0, 0], 0.4)
    loss = cross_view_loss(blunt, teacher, teacher[0, 0], 1.0, 0.04)
    assert_close(loss, double(math.log(4)))


class Constant(nn.Module):
    """A path whose one number, and one norm, can be set."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value, 2 * value]))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images):
        return {"logits": self.value.expand(len(images) // 2, 2, 2)}


def test_a_teacher_follows_by_an_exponential_average():
    teacher = Teacher(Constant(0.0), 2, momentum=0.9, centring=0.5)
    assert not list(teacher.parameters())
    for steps in range(1, 4):
        now = Constant(1.0)
        now.norm.num_batches_tracked.fill_(steps)
        teacher.follow(now)
        expected = 1 - 0.9**steps
        assert_close(teacher.answers(torch.zeros(2, 3, 1, 1))[0, 0, 0].item(), expected)
        assert teacher.state_dict()["path.norm.num_batches_tracked"] == steps
    assert set(teacher.state_dict()) == {f"path.{n}" for n in Constant(0.0).state_dict()} | {
        "centre"
    }


def test_the_centre_is_an_average_of_mean_answers():
    teacher = Teacher(Constant(0.0), 2, momentum=0.9, centring=0.75)
    first = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])
    second = torch.tensor([[[4.0, 4.0], [4.0, 4.0]]])
    teacher.move_centre(first, nn.Module())
    assert_close(teacher.centre, torch.tensor([0.5, 0.25]))
    teacher.move_centre(second, nn.Module())
    assert_close(teacher.centre, torch.tensor([1.375, 1.1875]))


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_random_and_repeat(kind, photos):
    task = task_of(kind)
    first, again, other = (task.make(raw_of(photos, key=k)).images for k in (1, 1, 2))
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    views = first.view(12, 2, *first.shape[1:])
    assert all(not torch.equal(*pair) for pair in views)


def test_a_view_without_changes_is_the_image(photos):
    for grey in (0.0, 1.0):
        made = task_of("simsiam", view="none", grey=grey).make(raw_of(photos)).images
        if grey:
            assert torch.equal(made[:, 0], made[:, 2])
        else:
            assert np.array_equal(made[::2].numpy(), photos)
            assert np.array_equal(made[1::2].numpy(), photos)


@pytest.mark.parametrize("kind", KINDS)
def test_head_answers_both_views_alike(kind):
    """What is said of a view does not depend on its place, and its loss has its lowest value where
    both views are the same and well predicted."""
    torch.manual_seed(0)
    head = task_of(kind, hidden=8, outputs=6).head([FeatureShape(5, 2, 2)], (8, 8)).eval()
    maps = torch.randn(4, 2, 5, 2, 2)
    forth, back = head(maps), head(maps.flip(1))
    for name, value in forth.items():
        assert_close(back[name], value.flip(1))
    loss, weight = task_of(kind).loss(forth, torch.zeros(4, 0))
    swapped, _ = task_of(kind).loss(back, torch.zeros(4, 0))
    assert_close(loss, swapped)
    assert torch.equal(weight, torch.ones(4))


def test_retrieval_finds_pairs_and_counts_a_collapse_as_none():
    eye = torch.eye(5)
    assert torch.equal(retrieved(torch.stack([eye, 2 * eye], 1)), torch.ones(5))
    assert torch.equal(retrieved(torch.ones(5, 2, 3)), torch.zeros(5))
    turned = torch.stack([eye, eye.roll(1, 0)], 1)
    assert torch.equal(retrieved(turned), torch.zeros(5))
    half = torch.tensor([[[1.0, 0.0], [1.0, 0.1]], [[0.0, 1.0], [1.0, 0.0]]])
    assert torch.equal(retrieved(half), torch.tensor([0.5, 0.0]))

"""Divergences between student and teacher, against worked numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.distill.soft_targets import soft_label_loss, soft_target_loss

STUDENT = torch.tensor([[2.0, 1.0, 0.1]], dtype=torch.float64)
TEACHER = torch.tensor([[1.0, 3.0, 0.2]], dtype=torch.float64)
logits = st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(
    lambda row: torch.tensor([row], dtype=torch.float64)
)


@pytest.mark.parametrize(
    ("direction", "temperature", "t2", "wanted"),
    [
        ("teacher_student", 2.0, False, 0.223868),
        ("teacher_student", 2.0, True, 0.895472),
        ("student_teacher", 2.0, False, 0.226087),
        ("student_teacher", 2.0, True, 0.904348),
        ("teacher_student", 1.0, False, 0.801904),
        ("student_teacher", 1.0, False, 0.926353),
    ],
)
def test_worked_numbers(direction, temperature, t2, wanted):
    found = soft_target_loss(STUDENT, TEACHER, temperature, direction, t2)
    assert_close(found.item(), wanted, atol=1e-6, rtol=0)


def test_the_divergence_is_that_of_the_worked_distributions():
    """Softened at T = 2, to six digits."""
    student = torch.tensor([0.501688, 0.304289, 0.194023], dtype=torch.float64)
    teacher = torch.tensor([0.227863, 0.619396, 0.152741], dtype=torch.float64)
    by_hand = (teacher * (teacher / student).log()).sum()
    assert_close(soft_target_loss(STUDENT, TEACHER)[0], by_hand, atol=3e-6, rtol=0)


@pytest.mark.parametrize(
    ("alpha", "literal", "additive"), [(1.0, 0.417030, 0.640898), (0.9, 0.397714, 0.618511)]
)
def test_worked_mixes_with_cross_entropy(alpha, literal, additive):
    ce = -torch.log_softmax(STUDENT, -1)[0, 0].item()
    kd = soft_target_loss(STUDENT, TEACHER).item()
    assert_close(alpha * ce + (1 - alpha) * kd, literal, atol=1e-6, rtol=0)
    assert_close(ce + alpha * kd, additive, atol=1e-6, rtol=0)


@given(logits, logits, st.floats(-3, 3))
def test_never_negative_and_blind_to_a_constant(student, teacher, constant):
    loss = soft_target_loss(student, teacher)
    assert loss.item() >= -1e-12
    assert_close(soft_target_loss(student + constant, teacher - constant), loss)
    assert_close(soft_target_loss(student, student + constant).item(), 0.0)
    assert soft_target_loss(student, teacher, temperature=1e6).item() < 1e-9


def test_the_teacher_gets_no_gradient():
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    soft_target_loss(student, teacher).sum().backward()
    assert student.grad.any()
    assert teacher.grad is None


def test_labels_match_one_by_one():
    """Yes/no logits: the mean of the two-class divergences, written out."""
    student, teacher = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 3.0]])
    wanted = 0.0
    for s, t in ((1.0, 0.0), (-2.0, 3.0)):
        p, q = (1 / (1 + math.exp(-z / 2)) for z in (t, s))
        wanted += (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) / 2
    assert_close(soft_label_loss(student, teacher).item(), wanted, atol=1e-6, rtol=1e-5)

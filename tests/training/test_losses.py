"""One loss per task: means over labelled images, whatever the batch looks like."""

import torch
from torch.testing import assert_close

from polytask.batch import Batch, Group, Target
from polytask.loss import Term
from polytask.sharing.method import Outputs
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.training.losses import StepLosses
from polytask.training.world import World

WORLD = World.of(accelerator="cpu")


def task(name, classes):
    return Classification(name, ClassificationOptions(kind="classification", classes=classes))


def worked_example():
    """Task A logits (2,0)→0, (0,0)→1; task B logits (0,1,0)→1, on three images."""
    tasks = {"a": task("a", 2), "b": task("b", 3), "absent": task("absent", 2)}
    outputs = Outputs(
        {
            "a": torch.tensor([[2.0, 0], [0, 0]], dtype=torch.float64, requires_grad=True),
            "b": torch.tensor([[0.0, 1, 0]], dtype=torch.float64, requires_grad=True),
            "absent": torch.zeros(0, 2, dtype=torch.float64, requires_grad=True),
        }
    )
    targets = {
        "a": Target(torch.tensor([0, 1]), torch.tensor([0, 2])),
        "b": Target(torch.tensor([1]), torch.tensor([1])),
        "absent": Target(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)),
    }
    group = Group(torch.zeros(3, 3, 1, 1), torch.arange(3), "all", targets)
    return tasks, Batch([group]), outputs


def test_sum_of_task_means_is_the_worked_number():
    tasks, batch, outputs = worked_example()
    found = StepLosses(tasks, batch, outputs, [], WORLD)
    assert_close(found.losses["a"].item(), (0.126928 + 0.693147) / 2, atol=1e-6, rtol=0)
    assert_close(found.losses["b"].item(), 0.551445, atol=1e-6, rtol=0)
    assert_close(sum(found.losses.values()).item(), 0.961482, atol=1e-6, rtol=0)


def test_mean_over_the_batch_is_the_worked_number():
    tasks, batch, outputs = worked_example()
    found = StepLosses(tasks, batch, outputs, [], WORLD, reduction="sample_mean")
    assert_close(sum(found.losses.values()).item(), 0.457173, atol=1e-6, rtol=0)


def test_an_image_counts_as_one_whatever_its_task_weighs_it_by():
    """4 images by their class and 4 by 1024 pixels each, all of loss 1; one has no known pixel."""
    one, pixels = torch.ones(4), torch.tensor([1024.0] * 4 + [0])
    terms = [Term("loss", "a", one, one), Term("loss", "b", pixels, pixels)]
    tasks = {"a": task("a", 2), "b": task("b", 2)}
    found = StepLosses(tasks, Batch([]), Outputs({}), terms, WORLD, reduction="sample_mean")
    assert found.values == {"a": 0.5, "b": 0.5}


def test_a_task_without_a_label_adds_no_term_and_no_gradient():
    tasks, batch, outputs = worked_example()
    found = StepLosses(tasks, batch, outputs, [], WORLD)
    assert set(found.losses) == {"a", "b"}
    sum(found.losses.values()).backward()
    assert outputs.predictions["absent"].grad is None


def test_terms_join_their_tasks_loss_or_the_penalty():
    tasks, batch, outputs = worked_example()
    plain = StepLosses(tasks, batch, outputs, [], WORLD)
    value = torch.tensor([1.0, 3.0], dtype=torch.float64)
    terms = [
        Term("soft", "a", value, torch.ones(2, dtype=torch.float64)),
        Term("l1", None, torch.tensor(5.0), 0.1),
        Term("l2", None, torch.tensor(2.0), 0.5),
    ]
    found = StepLosses(tasks, batch, outputs, terms, WORLD)
    assert_close(found.losses["a"], plain.losses["a"] + 2.0)
    assert_close(found.losses["b"], plain.losses["b"])
    assert_close(found.penalty.item(), 1.5)

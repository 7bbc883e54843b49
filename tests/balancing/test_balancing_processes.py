"""Two processes, each with half of the images, leave the gradients of one with all of them."""

from __future__ import annotations

import threading
from itertools import product

import pytest
import torch
from small_methods import TASKS, batch_of, gradients, method_of

from polytask.balancing import ALONE, build
from polytask.batch import Batch, Group, Target
from polytask.errors import UserError

SUMS = {"animal": 3, "colour": 2, "shape": 3}  # labelled images of the whole batch


class Threads:
    """Two threads that stand for processes; a sum waits for both."""

    size = 2

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=600)
        self.slots = {}

    def sum(self, value):
        self.slots[threading.current_thread().name] = value.clone()
        self.barrier.wait()
        total = self.slots["0"] + self.slots["1"]
        self.barrier.wait()
        return total


def half(batch, first):
    """Images 0-2 or 3-5 with their labels."""
    (group,) = batch.groups
    kept = torch.arange(3) + (0 if first else 3)
    targets = {}
    for task, target in group.targets.items():
        mine = (target.rows >= kept[0]) & (target.rows <= kept[-1])
        if mine.any():
            targets[task] = Target(target.value[mine], target.rows[mine] - kept[0])
    return Batch([Group(group.images[kept], group.index[kept], group.stream, targets)])


def step(balancer, method, batch, processes):
    balancer.zero_grad(set_to_none=True)
    balancer.on_step(1, method)
    predictions = method(batch).predictions
    losses = {}
    for task in TASKS:
        for name, _, target in batch:
            if name == task:
                loss, _ = method.tasks[task].loss(predictions[task], target.value)
                losses[task] = loss.sum() / SUMS[task]
    balancer.backward(losses, method, None, processes)
    own = [p.grad for p in balancer.parameters()]
    return {**gradients(method), **{f"balancer{i}": g for i, g in enumerate(own)}}


ON_FEATURES = {"on": "representation"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *product(
            ["hard", "multi_exit"],
            ["equal", "dwa", "uncertainty", "geometric_mean", "gradnorm", "mgda", "excess_mtl"],
        ),
        ("hard", {"mgda": ON_FEATURES}),
        ("hard", {"aligned_mtl": ON_FEATURES}),
    ],
)
def test_two_processes_are_one(kind, name):
    """Colour has labels in the first half only; batch norm is fixed."""
    batch = batch_of("integrated")
    methods = [method_of(kind).eval() for _ in range(3)]
    balancers = [build(name, method) for method in methods]
    threads, found = Threads(), {}

    def run(rank):
        part = half(batch, rank == 0)
        for _ in range(2):  # the second with weights that the first one made
            found[rank] = step(balancers[rank], methods[rank], part, threads)

    both = [threading.Thread(target=run, args=(rank,), name=str(rank)) for rank in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    step(balancers[2], methods[2], batch, ALONE)
    expected = step(balancers[2], methods[2], batch, ALONE)
    for parameter, value in expected.items():
        parts = [found[rank][parameter] for rank in range(2) if found[rank][parameter] is not None]
        assert (value is None) == (not parts), parameter
        if value is not None:
            torch.testing.assert_close(sum(parts), value, rtol=1e-3, atol=1e-5, msg=parameter)


def test_a_rule_that_reads_single_entries_has_no_features_of_other_processes():
    method = method_of("hard")
    build({"graddrop": ON_FEATURES}, method)
    with pytest.raises(UserError, match=r"graddrop\.on: representation runs in one process"):
        build({"graddrop": ON_FEATURES}, method, processes=2)

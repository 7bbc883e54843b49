"""Scores of a split by several processes."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from polytask.tasks.classification import Classification
from polytask.training.evaluation import evaluate
from polytask.training.run import Run

THERE = FakeTensorMode()  # makes tensors of devices that need not exist


class Elsewhere(Classification):
    """A task whose labels are on the second of two GPUs; chance says where it saw them."""

    def tally(self, target):
        with THERE:
            return torch.zeros(len(target), device="cuda:1")

    def chance(self, target):
        return {"on_cpu": float(target.device.type == "cpu")}


def test_what_chance_needs_leaves_its_gpu(config):
    """Tallies of processes with a GPU each are put together, which must be on one device."""
    made = config(["hard"])
    run = Run.alone(made, made.method("hard"), 0)
    own = run.method.tasks["read_print"]
    there = run.method.tasks["read_print"] = Elsewhere(own.name, own.options)
    there.classes = own.classes
    scores = evaluate(run.method, run.data.scoring("val"), run.world.device)
    assert scores.chance["read_print"] == {"on_cpu": 1.0}

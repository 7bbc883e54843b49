"""The processes of a run; here the only one."""

import torch

from polytask.training.world import World


def test_a_seed_draws_what_torch_draws_from_it():
    world = World.of(accelerator="cpu")
    world.seed(12)
    drawn = torch.rand(4), torch.randperm(9)
    torch.manual_seed(12)
    assert torch.equal(drawn[0], torch.rand(4))
    assert torch.equal(drawn[1], torch.randperm(9))

"""Balancers go back through compiled units as often as they need, and find the same gradients."""

from dataclasses import replace

import pytest
import torch
from small_methods import batch_of, gradients, losses_of, method_of
from torch import nn
from torch.testing import assert_close

from polytask.backbones.staged import StagedBackbone, UnitInfo
from polytask.balancing import build
from polytask.sharing.trunk.hard import Hard
from polytask.training.compiled import compile_units

# torch asks tensors inside a graph for their gradient while it traces, and then minds that it did.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


def two_units(channels=3):
    def unit(inside):
        return nn.Sequential(nn.Conv2d(inside, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    units = {"first": unit(channels), "second": unit(4)}
    return StagedBackbone(units, [UnitInfo(n, 4, 1) for n in units], {n: n for n in units})


@pytest.fixture(scope="module")
def pair():
    """A method and its compiled twin, and a batch."""
    setting = replace(method_of("hard").setting, backbone=two_units)
    plain, compiled = (Hard(setting, Hard.Options()).train() for _ in range(2))
    return plain, compiled, batch_of("integrated")


@pytest.mark.parametrize(
    "balancing", ["equal", "gradnorm", "pcgrad", {"mgda": {"on": "representation"}}]
)
def test_the_gradients_are_those_of_a_plain_method(pair, balancing):
    plain, compiled, batch = pair
    compile_units(compiled, "aot_eager", balancing)
    found = []
    for method in (plain, compiled):
        method.load_state_dict(plain.state_dict())
        balancer = build(balancing, method)
        balancer.on_step(1, method)
        balancer.backward(losses_of(method, batch), method)
        found.append(gradients(method))
    assert_close(found[1], found[0])
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_a_path_is_cut_out_of_a_compiled_method_as_it_is(pair):
    plain, compiled, _ = pair
    images = torch.randn(2, 3, 8, 8)
    compiled.load_state_dict(plain.state_dict())
    for task in plain.tasks:
        assert_close(compiled.path(task)(images), plain.path(task)(images))

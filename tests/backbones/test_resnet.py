"""ResNet and SE-ResNet: the source network's bits, whole or opened, and P1's parameter counts."""

from __future__ import annotations

import re
from itertools import accumulate

import pytest
import timm
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from polytask.backbones import build
from polytask.errors import UserError


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def torchvision_features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """torchvision's forward as it is written, up to the pooling."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
@torch.no_grad()
def test_units_composed_equal_torchvision(name, torchvision_source, ours):
    source = torchvision_source(name, "fc")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(name, source)(images), torchvision_features(source, images))


@torch.no_grad()
def test_one_block_a_stage_is_resnet10(randomised, ours):
    """Ten layers with weights: a stem, four blocks of two convolutions, a classifier."""
    source = randomised(ResNet(BasicBlock, [1, 1, 1, 1]))
    source.fc = nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours("resnet10", source)(images), torchvision_features(source, images))
    with pytest.raises(UserError, match="no pretrained weights of resnet10"):
        build("resnet10", pretrained=True)


@pytest.mark.parametrize(
    ("name", "in_timm"), [("resnet26", "resnet26"), ("se_resnet50", "seresnet50")]
)
@torch.no_grad()
def test_units_composed_equal_timm(name, in_timm, randomised, ours):
    source = randomised(timm.create_model(in_timm, num_classes=0))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(name, source)(images), source.forward_features(images))


def as_whole(name: str) -> str:
    """The name, in a whole block, of a tensor of an opened one."""
    parts = {"conv": ".conv{0}", "norm": ".bn{0}", "gate": ".se", "downsample": ".downsample"}
    pattern = re.compile(r"_conv(\d)\.(conv|norm|gate|downsample)")
    return pattern.sub(lambda m: parts[m[2]].format(m[1]), name)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize(
    ("name", "open"),
    [("resnet18", "layer4"), ("resnet26", "all"), ("se_resnet50", ("layer1.0", "layer4"))],
)
def test_opened_units_equal_the_whole_in_training(name, open, stem):
    images = torch.randn(4, 3, 16, 16)
    results = []
    for options in ({}, {"open": open}):
        torch.manual_seed(1)
        network = build(name, stem=stem, width=0.125, **options)
        out = network(images)
        out.square().mean().backward()
        gradients = {as_whole(n): p.grad for n, p in network.named_parameters()}
        statistics = {as_whole(n): b for n, b in network.named_buffers()}
        results.append((len(network.names), {"out": out, **gradients, **statistics}))
    (whole_units, whole), (opened_units, opened) = results
    assert opened_units > whole_units
    assert whole.keys() == opened.keys()
    assert all(torch.equal(whole[key], opened[key]) for key in whole)


def test_between_opened_convolutions_the_shortcuts_input_travels_along():
    network = build("resnet26", stem="small", width=0.125, open="layer2.0").eval()
    before = network(torch.randn(2, 3, 8, 8), "layer1")
    conv1, conv2 = network.unit("layer2.0.conv1"), network.unit("layer2.0.conv2")
    state = conv1(before)
    assert state[1] is before
    assert torch.equal(network.feature(state), conv1.norm(conv1.conv(before)).relu())
    middle = conv2(state)
    assert middle[1] is before
    assert torch.equal(network.feature(middle), conv2.norm(conv2.conv(state[0])).relu())
    assert network.resolve("layer2.0") == "layer2.0.conv3"
    assert network.stages["layer2"] == "layer2.1"


@pytest.mark.parametrize("name", ["resnet18", "se_resnet50"])
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_residual_units_are_their_three_parts(name, stem):
    network = build(name, stem=stem, width=0.125).eval()
    state = torch.randn(2, 3, 16, 16)
    for unit_name, unit in network:
        if unit_name != "stem":
            whole = unit(state)
            assert torch.equal(unit.activate(unit.residual(state) + unit.shortcut(state)), whole)
        state = unit(state)


def test_skipping_a_block_leaves_its_input_alone():
    unit = build("resnet18", stem="small", width=0.125).eval().unit("layer1.1")
    x = torch.randn(2, 8, 4, 4)
    kept = x.clone()
    assert torch.equal(unit.activate(unit.shortcut(x)), kept.relu())
    assert torch.equal(x, kept)


def test_the_parameters_of_p1s_quarter_width_network():
    with torch.device("meta"):
        network = build("resnet18", stem="small", width=0.25, open=("layer4",))
    done = dict(
        zip(network.names, accumulate(parameters(unit) for _, unit in network), strict=True)
    )
    assert done["layer3.1"] == 174_608
    assert done["layer4.0.conv1"] == 248_592
    assert done[network.resolve("layer4.0")] == 404_752
    assert done["layer4.1.conv1"] == 552_464
    assert done[network.last] == done[network.resolve("layer4")] == 700_176
    assert network.info["stem"].channels == 16
    assert network.shapes(3, 32, 32)["layer4.0.conv1"] == (128, 4, 4)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_published_parameters_with_the_classifier(name, count):
    with torch.device("meta"):
        network = build(name)
        assert parameters(network) + parameters(network.classifier(1000)) == count


def test_the_max_pool_opens_the_unit_behind_the_stem():
    shapes = build("resnet18", width=0.125).shapes(3, 64, 64)
    assert shapes["stem"] == (8, 32, 32)
    assert shapes["layer1.0"] == (8, 16, 16)


@pytest.mark.parametrize(("open", "near"), [("layr4", "layer4"), ("layer4.3", "layer4.1")])
def test_a_block_that_does_not_exist_is_told_with_the_nearest(open, near):
    with pytest.raises(UserError) as caught:
        build("resnet18", width=0.125, open=(open,))
    (fault,) = caught.value.faults
    assert fault.where == "backbone.open"
    assert f'"{open}"' in fault.problem
    assert f'"{near}"' in fault.hint

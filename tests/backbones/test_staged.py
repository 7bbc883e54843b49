"""The contract every backbone keeps: true descriptions, names, states."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask import registry
from polytask.backbones import build
from polytask.backbones.staged import StagedBackbone, UnitInfo
from polytask.errors import UserError

NAMES = registry.names("backbones")


@pytest.mark.parametrize(
    ("name", "stem"),
    [(name, "imagenet") for name in NAMES]
    + [(name, "small") for name in NAMES if not name.startswith("vit")],
)
def test_channels_and_strides_are_what_the_units_do(name, stem):
    with torch.device("meta"):
        network = build(name, stem=stem, open="all")
    # AlexNet's unpadded pools lose cells at the border: its stride shows on large images.
    # A SegNet takes sides that halve six times.
    size = 4096 if name == "alexnet" else 256 if "segnet" in name else 224
    for unit, (channels, height, width) in network.shapes(3, size, size).items():
        info = network.info[unit]
        assert channels == info.channels
        assert height == width == pytest.approx(size / info.stride, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_stages_end_in_order_and_the_last_at_the_last_unit(name):
    with torch.device("meta"):
        network = build(name)
    ends = [network.position(stage) for stage in network.stages]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(network.names) - 1
    assert [network.resolve(stage) for stage in network.stages] == list(network.stages.values())


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "mobilenet_v2", "alexnet", "convnext_atto"])
def test_images_may_have_other_channels(name, channels):
    with torch.device("meta"):
        three, other = build(name), build(name, channels=channels)
    assert other.shapes(channels, 64, 64) == three.shapes(3, 64, 64)


def chain() -> StagedBackbone:
    """Two units of which the first carries its input along."""

    class Carry(nn.Module):
        def forward(self, x):
            return x + 1, x

    class Sum(nn.Module):
        def forward(self, state):
            return state[0] + state[1]

    info = [UnitInfo("carry.0", 3, 1), UnitInfo("sum.0", 3, 1)]
    return StagedBackbone({"carry.0": Carry(), "sum.0": Sum()}, info, {"all": "sum.0"})


def test_a_state_may_carry_more_than_its_map():
    network, images = chain(), torch.randn(3, 3, 2, 2)
    state = network(images, "carry.0")
    assert torch.equal(network.feature(state), images + 1)
    replaced = network.replace(state, images * 2)
    assert torch.equal(network.unit("sum.0")(replaced), images * 3)
    taken = network.take(state, torch.tensor([2]))
    assert torch.equal(network.unit("sum.0")(taken), (images + 1 + images)[2:])


def test_a_unit_that_does_not_exist_is_told_with_the_nearest():
    with pytest.raises(UserError) as caught:
        chain().resolve("cary.0", "methods[1].exits.digits")
    (fault,) = caught.value.faults
    assert fault.where == "methods[1].exits.digits"
    assert '"cary.0"' in fault.problem
    assert "sum.0" in fault.problem
    assert '"carry.0"' in fault.hint


def test_images_too_small_for_a_network_are_a_fault_of_their_size():
    with torch.device("meta"):
        network = build("alexnet")
    with pytest.raises(UserError) as caught:
        network.shapes(3, 16, 16)
    (fault,) = caught.value.faults
    assert fault.where == "image_size"
    assert "16×16" in fault.problem
    assert "features.6" in fault.problem
    assert "small" in fault.hint

"""MobileNetV2: a unit per entry of `features`, with its branches apart."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
import torchvision

from polytask.backbones import build


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("width", [0.5, 1.0])
@torch.no_grad()
def test_units_composed_equal_torchvision(width, torchvision_source, ours):
    source = torchvision_source("mobilenet_v2", "classifier", width_mult=width)
    images = torch.randn(2, 3, 32, 32)
    network = ours("mobilenet_v2", source, width=width)
    assert torch.equal(network(images), source.features(images))


@torch.no_grad()
def test_a_small_stem_only_changes_the_first_stride(torchvision_source, ours):
    source = torchvision_source("mobilenet_v2", "classifier", width_mult=0.25)
    network = ours("mobilenet_v2", source, width=0.25, stem="small")
    source.features[0][0].stride = (1, 1)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), source.features(images))


def test_published_parameters_at_half_width():
    with torch.device("meta"):
        network = build("mobilenet_v2", width=0.5)
        head = network.classifier(1000)
    assert parameters(network) == 687_680
    assert parameters(network) + parameters(head) == 1_968_680
    done = dict(zip(network.names, accumulate(parameters(u) for _, u in network), strict=True))
    assert done["features.15"] == 275_360
    assert done["features.17"] == 480_320
    shares = [round(done[f"features.{i}"] / 687_680, 4) for i in range(13, 19)]
    assert shares == [0.2201, 0.2794, 0.4004, 0.5214, 0.6985, 1.0]


def test_units_with_a_shortcut_are_their_parts_and_others_have_none():
    network = build("mobilenet_v2", width=0.5).eval()
    state = network.unit("features.0")(torch.randn(2, 3, 32, 32))
    with_shortcut = []
    for name in network.names[1:-1]:
        unit = network.unit(name)
        whole = unit(state)
        if unit.shortcut is None:
            assert torch.equal(unit.activate(unit.residual(state)), whole)
            assert whole.shape != state.shape
        else:
            with_shortcut.append(name)
            assert torch.equal(unit.activate(unit.residual(state) + unit.shortcut(state)), whole)
        state = whole
    # Table 2 of the paper: every block of a sequence but its first.
    numbers = [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]
    assert with_shortcut == [f"features.{i}" for i in numbers]


def test_stages_are_the_units_of_one_map_size():
    network = build("mobilenet_v2", width=0.25)
    ends = ["features.1", "features.3", "features.6", "features.13", "features.18"]
    assert network.stages == {f"stage{i}": end for i, end in enumerate(ends, start=1)}
    assert [network.info[end].stride for end in ends] == [2, 4, 8, 16, 32]


@torch.no_grad()
def test_the_classifier_is_torchvisions():
    source = torchvision.models.mobilenet_v2(num_classes=7, width_mult=0.25).eval()
    head = build("mobilenet_v2", width=0.25).classifier(7).eval()
    head[-1].load_state_dict(source.classifier[-1].state_dict())
    last = torch.randn(2, 1280, 2, 2)
    want = source.classifier(last.mean((2, 3)))
    torch.testing.assert_close(head(last), want)
    assert head[-2].p == source.classifier[0].p

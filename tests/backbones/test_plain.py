"""VGG and AlexNet: every convolution a unit, pools open what follows them."""

from __future__ import annotations

import pytest
import torch
import torchvision

from polytask.backbones import build


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ["vgg11", "vgg16", "vgg11_bn", "vgg16_bn", "alexnet"])
@torch.no_grad()
def test_units_and_the_classifiers_pool_equal_torchvisions_features(name, torchvision_source, ours):
    source = torchvision_source(name, "classifier")
    images = torch.randn(2, 3, *(64, 64) if name == "alexnet" else (32, 32))
    network = ours(name, source)
    with torch.device("meta"):
        pool = network.classifier(10)[0]
    assert torch.equal(pool(network(images)), source.features(images))


@torch.no_grad()
def test_the_classifier_is_torchvisions():
    source = torchvision.models.alexnet(num_classes=7).eval()
    head = build("alexnet").classifier(7).eval()
    ordered = zip(head.parameters(), source.classifier.parameters(), strict=True)
    for own, theirs in ordered:
        own.copy_(theirs)
    last = torch.randn(2, 256, 13, 13)
    want = source.classifier(source.avgpool(source.features[-1](last)).flatten(1))
    assert torch.equal(head(last), want)


def test_vggs_classifier_has_torchvisions_layers():
    with torch.device("meta"):
        head = build("vgg16").classifier(5)
        source = torchvision.models.vgg16(num_classes=5)
    theirs = [source.features[-1], source.avgpool, torch.nn.Flatten(), *source.classifier]
    assert list(map(repr, head)) == list(map(repr, theirs))


@pytest.mark.parametrize(
    ("name", "count"), [("vgg16", 138_357_544), ("vgg16_bn", 138_365_992), ("alexnet", 61_100_840)]
)
def test_published_parameters_with_the_classifier(name, count):
    with torch.device("meta"):
        network = build(name)
        assert parameters(network) + parameters(network.classifier(1000)) == count


def test_the_exits_of_p0_in_vgg16():
    with torch.device("meta"):
        network = build("vgg16")
    shapes = network.shapes(3, 224, 224)
    assert len(network.names) == 13
    assert network.names[9] == "features.21"
    assert shapes["features.21"] == (512, 28, 28)
    assert network.last == network.names[12] == "features.28"
    assert shapes["features.28"] == (512, 14, 14)


def test_blocks_end_before_pools():
    with torch.device("meta"):
        stages = build("vgg16").stages
        small = build("alexnet_reduced").stages
    ends = ["features.2", "features.7", "features.14", "features.21", "features.28"]
    assert stages == {f"block{i}": end for i, end in enumerate(ends, start=1)}
    # Convolutions 1, 2 and 5: those before AlexNet's pools.
    assert small == {"block1": "features.0", "block2": "features.3", "block3": "features.10"}


def test_the_reduced_alexnet():
    network = build("alexnet_reduced").eval()
    assert [i.channels for i in network.info.values()] == [48, 96, 128, 128, 96]
    assert network.shapes(3, 32, 32)["features.10"] == (96, 8, 8)
    head = network.classifier(10).eval()
    assert [m.out_features for m in head if isinstance(m, torch.nn.Linear)] == [512, 256, 10]
    # At 32 pixels the fixed cells of the classifier are the pooled map itself.
    last = network(torch.randn(2, 3, 32, 32))
    flat = torch.nn.functional.max_pool2d(last, 2).flatten(1)
    assert torch.equal(head(last), head[3:](flat))
    eighth = build("alexnet_reduced", width=1 / 8)
    assert [i.channels for i in eighth.info.values()] == [6, 12, 16, 16, 12]


def test_a_small_stem_keeps_alexnet_usable_at_32_pixels():
    assert build("alexnet", stem="small", width=0.125).shapes(3, 32, 32)["features.10"] == (
        32,
        7,
        7,
    )

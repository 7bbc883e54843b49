"""Strided 1×1 convolutions learn from the right gradients in every layout and width."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from polytask import backbones
from polytask.backbones.sliced import SlicedConv2d, Width
from polytask.backbones.strided import StridedPointwise, guard


def gradients(conv, images):
    images = images.clone().requires_grad_()
    conv(images).square().sum().backward()
    return images.grad, conv.weight.grad


def by_definition(conv, images):
    """Every output pixel is a linear map of one input pixel, in float64."""
    images = images.double().requires_grad_()
    weight = conv.weight.detach().double().requires_grad_()
    (rows, columns) = conv.stride
    output = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], images[:, :, ::rows, ::columns])
    output.square().sum().backward()
    return images.grad.float(), weight.grad.float()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 12, 16])
@pytest.mark.parametrize("stride", [2, (1, 3)])
def test_gradients_follow_the_definition(channels, stride, layout):
    conv = nn.Conv2d(channels, 5, 1, stride, bias=False)
    made = StridedPointwise(conv).to(memory_format=layout)
    images = torch.randn(6, channels, 7, 8).contiguous(memory_format=layout)
    for got, want in zip(gradients(made, images), by_definition(conv, images), strict=True):
        assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_a_slice_is_guarded_too():
    conv = nn.Conv2d(32, 64, 1, 2, bias=False)
    images = torch.randn(6, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    sliced = SlicedConv2d(conv, Width(0.125), reads_images=False)
    sliced.to(memory_format=torch.channels_last)
    narrow = nn.Conv2d(4, 8, 1, 2, bias=False)
    narrow.weight = nn.Parameter(conv.weight.detach()[:8, :4].clone())
    _, got = gradients(sliced, images)
    _, want = by_definition(narrow, images)
    assert_close(got[:8, :4], want, atol=1e-4, rtol=1e-4)


def test_predictions_are_those_of_torch_bit_for_bit():
    conv = nn.Conv2d(4, 8, 1, 2)
    images = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        assert torch.equal(StridedPointwise(conv)(images), conv(images))


def test_only_strided_pointwise_convolutions_are_replaced():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, 2), nn.Conv2d(4, 4, 1, 2, 1)
    )
    guard(network)
    assert [type(layer) is StridedPointwise for layer in network] == [False, False, True, False]


def test_backbones_are_guarded():
    network = backbones.build("resnet18", width=0.0625, stem="small")
    assert sum(isinstance(part, StridedPointwise) for part in network.modules()) == 3

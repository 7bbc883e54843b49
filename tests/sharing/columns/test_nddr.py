"""NDDR: the worked example, and the starts from which it equals single networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from polytask.sharing.columns.nddr import Fusion


def fusion(build, **options):
    method = build("nddr", options)
    link = next(iter(method.links.values()))
    assert isinstance(link, Fusion)
    return link


def test_the_worked_example():
    """One pixel of (1, 2) and (3, -1) with 0.9 and 0.1, before norm and ReLU."""
    convolutions = [nn.Conv2d(4, 2, 1, bias=False, dtype=torch.float64) for _ in range(2)]
    with torch.no_grad():
        for own, conv in enumerate(convolutions):
            for column in range(2):
                block = torch.eye(2) * (0.9 if column == own else 0.1)
                conv.weight[:, 2 * column : 2 * column + 2, 0, 0] = block
    maps = [torch.tensor(m, dtype=torch.float64).view(1, 2, 1, 1) for m in ([1, 2], [3, -1])]
    first, second = Fusion(convolutions)(maps, [0, 1])
    assert_close(first.flatten(), torch.tensor([1.2, 1.7], dtype=torch.float64))
    assert_close(second.flatten(), torch.tensor([2.8, -0.7], dtype=torch.float64))


@pytest.mark.parametrize(("options", "alpha", "beta"), [({}, 0.9, 0.05), ({"beta": 0.2}, 0.9, 0.2)])
def test_blocks_start_diagonal(build, options, alpha, beta):
    """Three columns: own channels by alpha, the same ones of others by beta, no bias."""
    link = next(iter(build("nddr", options, tasks=3).links.values()))
    for own, mixer in enumerate(link.mixers):
        conv = mixer[0]
        assert conv.bias is None
        channels = conv.out_channels
        for column, block in enumerate(conv.weight[:, :, 0, 0].split(channels, dim=1)):
            assert_close(block, torch.eye(channels) * (alpha if column == own else beta))


def test_without_others_and_norm_columns_are_single_networks(build, batch_for):
    options = {"alpha": 1.0, "beta": 0.0, "norm": False}
    single, fused = build("single").eval(), build("nddr", options).eval()
    batch = batch_for(single)
    assert_close(fused(batch).predictions, single(batch).predictions, atol=1e-6, rtol=1e-6)


def test_fresh_norms_in_use_hardly_change_maps_after_a_relu(build, batch_for):
    """Unit statistics divide by the root of 1 + 1e-5 at each of five places."""
    single, fused = build("single").eval(), build("nddr", {"alpha": 1.0, "beta": 0.0}).eval()
    batch = batch_for(single)
    assert_close(fused(batch).predictions, single(batch).predictions, atol=1e-5, rtol=1e-4)


def test_a_shortcut_starts_as_if_it_were_not_there(build, batch_for):
    plain, short = build("nddr").eval(), build("nddr", {"shortcut": True}).eval()
    batch = batch_for(plain)
    assert_close(short(batch).predictions, plain(batch).predictions)
    first = "features.0"
    assert short.taps("a")[0] == first
    with torch.no_grad():
        short.tails["a"].conv.weight.fill_(0.01)
    assert not torch.equal(short(batch).predictions["a"], plain(batch).predictions["a"])
    assert torch.equal(short(batch).predictions["a"], short.path("a")(batch.groups[0].images))


def test_a_shortcut_brings_gradients_to_early_places(build, batch_for):
    """Behind a stage whose units are cut off, the shortcut still reaches its own link."""
    method = build("nddr", {"shortcut": True})
    with torch.no_grad():
        method.tails["a"].conv.weight.fill_(0.01)
        for weight in method.columns["a"].unit("features.18").parameters():
            weight.zero_()
    method(batch_for(method)).predictions["a"].square().sum().backward()
    assert method.links["features_0"].mixers[0][0].weight.grad.any()


def test_the_last_link_of_a_task_serves_it_alone(build):
    method = build("nddr")
    last, before = method.links["features_18"], method.links["features_13"]
    assert set(last.mixers[0].parameters()) <= method.view("a")
    assert not set(last.mixers[1].parameters()) & method.view("a")
    assert set(before.parameters()) <= method.shared()


def test_the_authors_decay_of_statistics(build):
    link = fusion(build)
    assert link.mixers[0][1].momentum == pytest.approx(1 - 0.95)

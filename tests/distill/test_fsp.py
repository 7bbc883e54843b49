"""FSP against worked numbers and what must hold of any maps."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.distill.fsp import Adapters, flow, fsp_loss, taps_for

FIRST = torch.tensor([[[[1.0, 2], [3, 4]], [[0, 1], [1, 0]]]], dtype=torch.float64)
SECOND = torch.tensor(
    [[[[1.0, 0], [0, 1]], [[2, 1], [0, 1]], [[1, 1], [1, 1]]]], dtype=torch.float64
)

CUTS = (slice(0, 2), slice(2, 5))


def test_worked_numbers():
    wanted = torch.tensor([[[1.25, 2, 2.5], [0, 0.25, 0.5]]], dtype=torch.float64)
    assert_close(flow(FIRST, SECOND), wanted, atol=1e-6, rtol=0)
    assert_close(flow(FIRST, SECOND / 2), wanted / 2, atol=1e-6, rtol=0)
    loss = fsp_loss([FIRST, SECOND / 2], [FIRST, SECOND])
    assert_close(loss.item(), 3.031250, atol=1e-6, rtol=0)
    assert_close(loss.item() / wanted.numel(), 0.505208, atol=1e-6, rtol=0)


@given(st.integers(1, 3), st.integers(1, 3), st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_flow_is_bilinear_and_blind_to_places(m, n, a, b, seed):
    torch.manual_seed(seed)
    first, second = (torch.randn(2, c, 3, 4, dtype=torch.float64) for c in (m, n))
    assert_close(flow(a * first, b * second), a * b * flow(first, second))
    order = torch.randperm(12)
    moved = [maps.flatten(2)[..., order].reshape(maps.shape) for maps in (first, second)]
    assert_close(flow(*moved), flow(first, second))
    # Eq. 1 as written: one sum per pair of channels.
    naive = [
        [sum(first[0, i, y, x] * second[0, j, y, x] for y in range(3) for x in range(4)) / 12
         for j in range(n)]
        for i in range(m)
    ]  # fmt: skip
    assert_close(flow(first, second)[0], torch.tensor(naive, dtype=torch.float64))


def test_identical_networks_have_nothing_to_learn():
    maps = [torch.randn(3, c, s, s) for c, s in ((2, 8), (4, 4), (5, 2))]
    assert not fsp_loss(maps, maps).any()
    assert_close(fsp_loss([m * 0 for m in maps], maps, True).mean().item(), 2.0)


def test_the_larger_map_is_max_pooled():
    large, small = torch.randn(1, 2, 6, 6), torch.randn(1, 3, 3, 3)
    pooled = large.reshape(1, 2, 3, 2, 3, 2).amax((3, 5))
    assert_close(flow(large, small), flow(pooled, small))


def test_no_gradient_reaches_the_teacher():
    student = [torch.randn(1, 2, 2, 2, requires_grad=True) for _ in range(2)]
    teacher = [torch.randn(1, 2, 2, 2, requires_grad=True) for _ in range(2)]
    fsp_loss(student, teacher).sum().backward()
    assert all(maps.grad is not None and maps.grad.any() for maps in student)
    assert all(maps.grad is None for maps in teacher)


def test_adapters_stand_only_where_channels_differ():
    adapters = Adapters([3, 4], [3, 8])
    assert [p.shape for p in adapters.parameters()] == [(8, 4, 1, 1)]
    maps = [torch.randn(2, 3, 5, 5), torch.randn(2, 4, 2, 2)]
    same, wider = adapters(maps)
    assert same is maps[0]
    assert wider.shape == (2, 8, 2, 2)


def test_the_deepest_maps_are_compared():
    assert taps_for(list("abcd"), list("uvwxyz"), 3) == (list("abcd"), list("wxyz"))
    assert taps_for(list("ab"), list("wxyz"), 3) == (list("ab"), list("yz"))


def test_the_parts_of_a_batch_weigh_as_the_whole():
    """Two processes with unequal parts: each adds its own to what the other has."""
    torch.manual_seed(0)
    student, teacher = ([torch.randn(5, c, 4, 4) for c in (3, 2, 4)] for _ in range(2))
    parts = [([m[cut] for m in student], [m[cut] for m in teacher]) for cut in CUTS]
    told = [[], []]
    for own, part in zip(told, parts, strict=True):
        fsp_loss(*part, True, lambda sums, own=own: own.append(sums) or sums)
    totals = [sum(sums) for sums in zip(*told, strict=True)]
    found = []
    for part in parts:
        left = iter(totals)
        found.append(fsp_loss(*part, True, lambda sums, left=left: next(left)))
    assert_close(torch.cat(found), fsp_loss(student, teacher, True))
    assert not torch.allclose(found[0], fsp_loss(*parts[0], True))

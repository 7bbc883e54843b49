"""Taking images out of a state: what an index gives, in the layout that the state has."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.backbones.staged import rows_apart, rows_of

LAYOUTS = {"channels_last": torch.channels_last, "default": torch.contiguous_format}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("rows", [[0, 1], [1, 3, 4], [2], []], ids=str)
def test_values_and_gradient_are_those_of_an_index(layout, rows):
    maps = torch.randn(5, 3, 4, 2).contiguous(memory_format=layout).requires_grad_()
    chosen = torch.tensor(rows, dtype=torch.long)
    taken = rows_of(maps, chosen)
    weight = torch.randn(taken.shape)
    (got,) = torch.autograd.grad((taken * weight).sum(), maps)
    (want,) = torch.autograd.grad((maps[chosen] * weight).sum(), maps)
    assert torch.equal(taken, maps[chosen])
    assert torch.equal(got, want)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_gradient_keeps_the_layout(layout):
    maps = torch.randn(5, 3, 4, 2).contiguous(memory_format=layout).requires_grad_()
    taken = rows_of(maps, torch.tensor([1, 4]))
    assert taken.is_contiguous(memory_format=layout)
    (gradient,) = torch.autograd.grad(taken.square().sum(), maps)
    assert gradient.is_contiguous(memory_format=layout)


def test_rows_of_anything_but_maps():
    tokens = torch.randn(4, 6, 2)
    assert torch.equal(rows_of(tokens, torch.tensor([3, 0])), torch.stack([tokens[3], tokens[0]]))


@given(st.lists(st.sets(st.integers(0, 5)), max_size=3))
def test_several_readers_get_what_an_index_gives_each(readers):
    maps = torch.arange(6.0 * 2 * 3 * 2).view(6, 2, 3, 2)
    maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
    places = [torch.tensor(sorted(rows), dtype=torch.long) if rows else None for rows in readers]
    taken = rows_apart(maps, places)
    expected = [maps if rows is None else maps[rows] for rows in places]
    assert len(taken) == len(expected)
    assert all(torch.equal(own, other) for own, other in zip(taken, expected, strict=True))
    if readers:
        sums = (sum((part**2).sum() for part in parts) for parts in (taken, expected))
        got, want = (torch.autograd.grad(total, maps)[0] for total in sums)
        assert torch.equal(got, want)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("cuts", [[2, 3], [1, 2]], ids=["all", "some"])
def test_consecutive_rows_of_each_reader_are_parts_of_one_split(layout, cuts):
    maps = torch.randn(5, 3, 4, 2).contiguous(memory_format=layout).requires_grad_()
    first, second = cuts
    places = [torch.arange(5 - second, 5), torch.arange(first)]
    taken = rows_apart(maps, places)
    assert [part.data_ptr() for part in taken] == [maps[5 - second].data_ptr(), maps.data_ptr()]
    (gradient,) = torch.autograd.grad(sum(part.square().sum() for part in taken), maps)
    assert gradient.is_contiguous(memory_format=layout)

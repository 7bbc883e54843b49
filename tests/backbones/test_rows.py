"""Taking images out of a state: what an index gives, in the layout that the state has."""

import pytest
import torch

from polytask.backbones.staged import rows_of

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

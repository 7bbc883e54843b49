"""What masks save in a path: nothing in dense kernels, the masked weights in sparse ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from polytask.cost.count import Work


def saved_by_masks(path: nn.Module, work: Mapping[nn.Module, Work]) -> tuple[int, int]:
    """The parameters and MACs of a path that belong to weights a mask holds at 0.

    A layer whose weights are masked says in `kept` how many are not. A convolution or linear layer
    uses each of its weights equally often, so that its MACs fall with them.
    """
    params = macs = 0
    for layer in path.modules():
        kept, weight = getattr(layer, "kept", None), getattr(layer, "weight", None)
        if isinstance(kept, int) and isinstance(weight, Tensor):
            masked = weight.numel() - kept
            params += masked
            macs += work[layer].macs * masked // weight.numel()
    return params, macs

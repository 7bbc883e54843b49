"""Residual blocks of torchvision with their two branches apart, whole or one unit a convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck


class Residual(nn.Module):
    """What a residual unit adds to torchvision's block: `forward` in three parts.

    `forward(x)` equals `activate(residual(x) + shortcut(x))`. `pool`, where there is one, opens the
    unit (the max-pool that follows a stem) and runs before either branch.
    """

    convolutions: tuple[str, ...]
    expansion: int
    stride: int
    downsample: nn.Module | None
    relu: nn.Module
    conv1: nn.Conv2d
    conv2: nn.Conv2d
    bn1: nn.Module
    bn2: nn.Module

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pool: nn.Module | None = None

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch of a map that is already pooled."""
        raise NotImplementedError

    def skip(self, x: Tensor) -> Tensor:
        """The shortcut of a map that is already pooled."""
        return x if self.downsample is None else self.downsample(x)

    def enter(self, x: Tensor) -> Tensor:
        """The map that both branches start from."""
        return x if self.pool is None else self.pool(x)

    def residual(self, x: Tensor) -> Tensor:
        """The residual branch."""
        return self.branch(self.enter(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """The input itself, or projected to the shape of the output."""
        return self.skip(self.enter(x))

    def activate(self, x: Tensor) -> Tensor:
        """What follows the sum; not in place, since the sum of a skipped block is its input."""
        return F.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        """The whole block, with the operations of torchvision's."""
        x = self.enter(x)
        out = self.branch(x)
        out += self.skip(x)
        summed: Tensor = self.relu(out)
        return summed

    def opened(self) -> Iterator[tuple[str, InnerConvolution | LastConvolution]]:
        """One unit per convolution, by name; composed they equal the block bit for bit.

        The units take over the block's modules: the block is not to be used any more.
        """
        *inner, last = self.convolutions
        for name in inner:
            pool = self.pool if name == inner[0] else None
            yield name, InnerConvolution(*self.step(name), pool)
        yield last, LastConvolution(*self.step(last), getattr(self, "se", None), self.downsample)

    def step(self, name: str) -> tuple[nn.Conv2d, nn.Module]:
        """A convolution and the norm of its map."""
        return getattr(self, name), getattr(self, name.replace("conv", "bn"))


class BasicUnit(Residual, BasicBlock):  # type: ignore[misc]
    """Two 3×3 convolutions."""

    convolutions = ("conv1", "conv2")

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch of a map that is already pooled."""
        x = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(x))
        return out


class BottleneckUnit(Residual, Bottleneck):  # type: ignore[misc]
    """1×1, 3×3 (with the stride, as torchvision has it) and 1×1 convolutions."""

    convolutions = ("conv1", "conv2", "conv3")
    conv3: nn.Conv2d
    bn3: nn.Module

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch of a map that is already pooled."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.bn3(self.conv3(x))
        return out


class InnerConvolution(nn.Module):
    """A convolution of an opened block but its last: (map, shortcut's input) to the same.

    The first one takes the block's input, a map alone.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, pool: nn.Module | None) -> None:
        super().__init__()
        self.pool = pool
        self.conv = conv
        self.norm = norm

    def forward(self, state: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Convolve, normalise, cut at 0; carry the shortcut's input along."""
        if isinstance(state, Tensor):
            x = entered = state if self.pool is None else self.pool(state)
        else:
            x, entered = state
        return F.relu(self.norm(self.conv(x)), inplace=True), entered


class LastConvolution(nn.Module):
    """The last convolution of an opened block, which also runs the shortcut and the sum."""

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.Module,
        gate: nn.Module | None,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.gate = gate
        self.downsample = downsample

    def forward(self, state: tuple[Tensor, Tensor]) -> Tensor:
        """(map, shortcut's input) to the block's output."""
        x, entered = state
        out: Tensor = self.norm(self.conv(x))
        if self.gate is not None:
            out = self.gate(out)
        out += entered if self.downsample is None else self.downsample(entered)
        return F.relu(out, inplace=True)

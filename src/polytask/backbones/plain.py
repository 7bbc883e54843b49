"""Networks that are one chain of convolutions (VGG, AlexNet): every convolution is a unit."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from polytask.backbones.staged import StagedBackbone, UnitInfo


class PlainBackbone(StagedBackbone):
    """The `features` of a torchvision network, `hidden` wide in its classifier.

    A unit `features.21` is the convolution of that index with its norm and ReLU; pooling opens the
    next unit. The pool at the end of `features` opens the classifier instead, so that the last map
    is the last convolution's. A stage `block2` ends before the second pool.
    """

    def __init__(self, features: nn.Sequential, hidden: tuple[int, ...]) -> None:
        units: dict[str, nn.Module] = {}
        info: list[UnitInfo] = []
        stages: dict[str, str] = {}
        block, stride = 1, 1
        for name, unit in _units(features):
            for step in unit:
                if isinstance(step, nn.MaxPool2d):
                    block += 1
                    stride *= 2  # of every pool of VGG and AlexNet
                if isinstance(step, nn.Conv2d):
                    stride *= step.stride[0]
                    info.append(UnitInfo(name, step.out_channels, stride))
            units[name] = unit
            stages[f"block{block}"] = name
        super().__init__(units, info, stages)
        self.hidden = hidden


def _units(features: nn.Sequential) -> Iterator[tuple[str, nn.Sequential]]:
    """(name, unit) of every convolution, with the pool before and the norm and ReLU after it."""
    kinds = {nn.MaxPool2d: "pool", nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "relu"}
    name, unit = "", nn.Sequential()
    for index, step in features.named_children():
        part = kinds[type(step)]
        if part == "conv":
            name = f"features.{index}"
        unit.add_module(part, step)
        if part == "relu":
            yield name, unit
            unit = nn.Sequential()

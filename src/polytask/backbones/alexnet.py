"""AlexNet and a reduced one for small images: every convolution a unit (`features.3`).

alexnet is torchvision's; `stem: small` replaces its first convolution by 3×3 with stride 1.
alexnet_reduced has five 3×3 convolutions of widths 48, 96, 128, 128, 96 with stride 1 (its stem is
small already), 2×2 pools after convolutions 1, 2 and 5, and a classifier of 512 and 256.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from polytask.backbones import weights
from polytask.backbones.options import Options
from polytask.backbones.plain import PlainBackbone
from polytask.backbones.staged import StagedBackbone
from polytask.backbones.stem import first_convolution
from polytask.errors import Fault

NAMES = {
    "alexnet": "5 convolutions, the first 11×11 with stride 4",
    "alexnet_reduced": "5 convolutions of 3×3 at half of AlexNet's width, for small images",
}


class AlexNet(PlainBackbone):
    """AlexNet's convolutions and its classifier: `pool` closes the last map, then `cells`²."""

    def __init__(
        self, features: nn.Sequential, hidden: tuple[int, ...], pool: int, cells: int
    ) -> None:
        super().__init__(features, hidden)
        self.pool = pool
        self.cells = cells

    def classifier(self, classes: int) -> nn.Module:
        """torchvision's: the last pool, fixed cells, two hidden layers behind dropout."""
        channels = self.info[self.last].channels
        first, second = self.hidden
        return nn.Sequential(
            nn.MaxPool2d(self.pool, 2),
            nn.AdaptiveAvgPool2d(self.cells),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(channels * self.cells**2, first),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(first, second),
            nn.ReLU(inplace=True),
            nn.Linear(second, classes),
        )


def build(name: str, options: Options) -> StagedBackbone:
    """Build an AlexNet."""
    is_reduced = name == "alexnet_reduced"
    options.refuse(options.only_all(name), _not_offered(options) if is_reduced else None)
    features = _reduced(options) if is_reduced else _original(options)
    network = nn.ModuleDict({"features": features})
    offered = partial(weights.from_torchvision, name)
    load = partial(weights.load, network, options, offered=offered)
    load(first="features.0", head=("classifier.",))
    if is_reduced:
        return AlexNet(features, (options.scaled(512), options.scaled(256)), 2, 4)
    return AlexNet(features, (options.scaled(4096), options.scaled(4096)), 3, 6)


def _not_offered(options: Options) -> Fault | None:
    problem = "no library offers weights of alexnet_reduced."
    fault = Fault("backbone.pretrained", problem, "Set it to false, or set weights: FILE.")
    return fault if options.pretrained else None


def _original(options: Options) -> nn.Sequential:
    c = [options.scaled(channels) for channels in (64, 192, 384, 256, 256)]
    first = nn.Conv2d(3, c[0], kernel_size=11, stride=4, padding=2)
    return nn.Sequential(
        first_convolution(first, options),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(c[0], c[1], kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(c[1], c[2], kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c[2], c[3], kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(c[3], c[4], kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )


def _reduced(options: Options) -> nn.Sequential:
    features = nn.Sequential()
    inputs = options.channels
    for i, channels in enumerate((48, 96, 128, 128, 96)):
        outputs = options.scaled(channels)
        features.append(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
        features.append(nn.ReLU(inplace=True))
        if i < 2:
            features.append(nn.MaxPool2d(kernel_size=2, stride=2))
        inputs = outputs
    return features

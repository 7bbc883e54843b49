"""VGG: every convolution a unit, named by torchvision's index (`features.21`).

The map of the last unit is that of the last convolution (14×14 at 224 pixels): the pool behind it
opens the classifier, which is torchvision's (7×7 cells, two hidden layers of 4096). The stem has no
stride, so that `stem: small` changes nothing.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from polytask.backbones import weights
from polytask.backbones.options import Options
from polytask.backbones.plain import PlainBackbone
from polytask.backbones.staged import StagedBackbone
from polytask.backbones.stem import first_convolution

NAMES = {
    "vgg11": "8 convolutions in 5 blocks",
    "vgg11_bn": "8 convolutions with batch norm in 5 blocks",
    "vgg16": "13 convolutions in 5 blocks",
    "vgg16_bn": "13 convolutions with batch norm in 5 blocks",
}
LAYOUTS = {"vgg11": "A", "vgg16": "D"}  # columns of the paper's table 1


class VGG(PlainBackbone):
    """VGG's convolutions and its classifier."""

    def classifier(self, classes: int) -> nn.Module:
        """torchvision's: the last pool, 7×7 cells, two hidden layers with dropout."""
        channels = self.info[self.last].channels
        first, second = self.hidden
        head = nn.Sequential(
            nn.MaxPool2d(2, 2),
            nn.AdaptiveAvgPool2d((7, 7)),
            nn.Flatten(),
            nn.Linear(channels * 7 * 7, first),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(first, second),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(second, classes),
        )
        for layer in head:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)
        return head


def build(name: str, options: Options) -> StagedBackbone:
    """Build a VGG."""
    options.refuse(options.only_all(name))
    layout = cfgs[LAYOUTS[name.removesuffix("_bn")]]
    widths = [step if step == "M" else options.scaled(step) for step in layout]
    features: Any = make_layers(widths, batch_norm=name.endswith("_bn"))
    features[0] = first_convolution(features[0], options)
    pools = [step for step in features if isinstance(step, nn.MaxPool2d)]
    pools[2].ceil_mode = True  # as in SSD300, whose maps are 38 and 19 cells wide
    for step in features:
        if isinstance(step, nn.Conv2d):
            nn.init.kaiming_normal_(step.weight, mode="fan_out", nonlinearity="relu")
            nn.init.constant_(cast(Tensor, step.bias), 0)
    network = nn.ModuleDict({"features": features})
    offered = partial(weights.from_torchvision, name)
    load = partial(weights.load, network, options, offered=offered)
    load(first="features.0", head=("classifier.",))
    hidden = options.scaled(4096)
    return VGG(features, (hidden, hidden))

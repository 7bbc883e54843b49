"""Residual SegNet: an encoder that halves a map in every stage, and a decoder that doubles it back.

Units are `stem`, `enc1` … `enc5` and `dec1` … `dec6`, so that links and attention may stand in the
decoder too. Tasks that answer per image leave after `enc5`; dense ones run to the end and need but
a last convolution (`decoder: conv`). There are no skips.

Source: the pets system, "Multitask Learning in Image Recognition, Segmentation, and Classification"
(report), after Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017. Parameters of its networks
are reproduced exactly.

Differs from the report: `stem: small` starts without halving, and the last level then does not
double, for images of about 64×64, whose sides must be multiples of 32 (otherwise of 64).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from polytask.backbones.options import Options
from polytask.backbones.staged import StagedBackbone, UnitInfo
from polytask.errors import Fault

NAMES = {
    "residual_segnet": "5 residual stages down and 6 levels up; first convolution 3×3",
    "residual_segnet_7x7": "5 residual stages down and 6 levels up; first convolution 7×7",
}
CHANNELS = (16, 32, 64, 128, 256, 512)
SCORES = 3  # channels of the last level, whatever the width


class ResidualBlock(nn.Module):
    """Two residual units at one size, then the sampler that changes channels and size.

    Both units add the block's own input, as the authors' code does, with no ReLU after the sum.
    """

    def __init__(self, inputs: int, sampler: nn.Sequential) -> None:
        super().__init__()
        self.first = _twice(inputs)
        self.second = _twice(inputs)
        self.sampler = sampler

    def forward(self, x: Tensor) -> Tensor:
        middle = self.first(x) + x
        sampled: Tensor = self.sampler(self.second(middle) + x)
        return sampled


def _twice(channels: int) -> nn.Sequential:
    """Conv, batch norm, ReLU, conv, batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )


def down(inputs: int, outputs: int) -> ResidualBlock:
    """A stage of the encoder: half the size."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    parts = (conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    return ResidualBlock(inputs, nn.Sequential(*parts))


def up(inputs: int, outputs: int, factor: int = 2) -> ResidualBlock:
    """A level of the decoder: `factor` times the size."""
    conv = nn.ConvTranspose2d(inputs, outputs, 3, factor, padding=1, output_padding=factor - 1)
    parts = (conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
    return ResidualBlock(inputs, nn.Sequential(*parts))


def build(name: str, options: Options) -> StagedBackbone:
    """Build a residual SegNet."""
    options.refuse(_no_weights(name, options), options.only_all(name))
    widths = [options.scaled(channels) for channels in CHANNELS]
    side = 7 if name.endswith("7x7") else 3
    stride = 1 if options.stem == "small" else 2
    conv = nn.Conv2d(options.channels, widths[0], side, stride, side // 2, bias=False)
    units: dict[str, nn.Module] = {
        "stem": nn.Sequential(conv, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))
    }
    info = [UnitInfo("stem", widths[0], stride)]
    for i, (inputs, outputs) in enumerate(pairwise(widths), 1):
        units[f"enc{i}"] = down(inputs, outputs)
        info.append(UnitInfo(f"enc{i}", outputs, stride * 2**i))
    rising = [*reversed(widths), SCORES]
    for i, (inputs, outputs) in enumerate(pairwise(rising), 1):
        is_last = i == len(widths)
        units[f"dec{i}"] = up(inputs, outputs, stride if is_last else 2)
        info.append(UnitInfo(f"dec{i}", outputs, 1 if is_last else stride * 2 ** (5 - i)))
    stages = {unit: unit for unit in units if unit != "stem"}
    return StagedBackbone(units, info, stages, encoder="enc5")


def _no_weights(name: str, options: Options) -> Fault | None:
    if not (options.pretrained or options.weights):
        return None
    key = "pretrained" if options.pretrained else "weights"
    problem = f"no library offers weights for {name}."
    return Fault(f"backbone.{key}", problem, "Leave it out; backbone.init takes those of a run.")

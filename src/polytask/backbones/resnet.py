"""ResNet of any width, with a form for small images; residual blocks open into convolutions.

`stem: small` starts with a 3×3 convolution of stride 1 and has no max-pool; otherwise the max-pool
opens `layer1.0`. resnet26 has two bottleneck blocks a stage, as timm's; resnet10 has one basic
block a stage, and no library offers weights of it.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Simon et al.,
"ImageNet pre-trained models with batch normalization", 2016 (ResNet-10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torch import nn

from polytask.backbones import weights
from polytask.backbones.options import Options
from polytask.backbones.residual import BasicUnit, BottleneckUnit, Residual
from polytask.backbones.staged import StagedBackbone, UnitInfo
from polytask.backbones.stem import first_convolution
from polytask.errors import UserError, unknown

NAMES = {
    "resnet10": "4 basic residual blocks in 4 stages",
    "resnet18": "8 basic residual blocks in 4 stages",
    "resnet26": "8 bottleneck residual blocks in 4 stages",
    "resnet34": "16 basic residual blocks in 4 stages",
    "resnet50": "16 bottleneck residual blocks in 4 stages",
}
BLOCKS: dict[str, tuple[type[Residual], tuple[int, ...]]] = {
    "resnet10": (BasicUnit, (1, 1, 1, 1)),
    "resnet18": (BasicUnit, (2, 2, 2, 2)),
    "resnet26": (BottleneckUnit, (2, 2, 2, 2)),
    "resnet34": (BasicUnit, (3, 4, 6, 3)),
    "resnet50": (BottleneckUnit, (3, 4, 6, 3)),
}
LAYERS = ("layer1", "layer2", "layer3", "layer4")


def build(name: str, options: Options) -> StagedBackbone:
    """Build a ResNet."""
    network = ResidualNetwork(*BLOCKS[name], options)
    is_timms = name in ("resnet10", "resnet26")
    library = weights.from_timm if is_timms else weights.from_torchvision
    weights.load(network, options, offered=partial(library, name), first="conv1", head=("fc.",))
    return cut(network, options)


class ResidualNetwork(nn.Module):
    """torchvision's ResNet without its classifier: its modules, names and initial weights."""

    def __init__(self, block: type[Residual], depths: Sequence[int], options: Options) -> None:
        super().__init__()
        inputs = options.scaled(64)
        self.conv1 = first_convolution(nn.Conv2d(3, inputs, 7, 2, 3, bias=False), options)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        for i, (layer, depth) in enumerate(zip(LAYERS, depths, strict=True)):
            planes = options.scaled(64 * 2**i)
            self.add_module(layer, _layer(block, inputs, planes, depth, stride=2 if i else 1))
            inputs = planes * block.expansion
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def blocks(self) -> Iterator[tuple[str, Residual]]:
        """Every residual block by its name, in order."""
        for name, module in self.named_modules():
            if isinstance(module, Residual):
                yield name, module


def _layer(
    block: type[Residual], inputs: int, planes: int, depth: int, stride: int
) -> nn.Sequential:
    outputs = planes * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))
    first = block(inputs, planes, stride, downsample)
    return nn.Sequential(first, *(block(outputs, planes) for _ in range(depth - 1)))


def cut(network: ResidualNetwork, options: Options) -> StagedBackbone:
    """Units `stem`, `layer1.0`, …; an opened block's are `layer4.0.conv1`, `layer4.0.conv2`, …

    Raises:
        UserError: a name to open is no residual unit or stage.
    """
    blocks = dict(network.blocks())
    opened = _opened(list(blocks), options)
    conv = network.conv1
    stride = conv.stride[0]
    stem = nn.Sequential()
    for part in ("conv1", "bn1", "relu"):
        stem.add_module(part, network.get_submodule(part))
    units: dict[str, nn.Module] = {"stem": stem}
    info = [UnitInfo("stem", conv.out_channels, stride)]
    if options.stem == "imagenet":
        blocks["layer1.0"].pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stride *= 2
    ends: dict[str, str] = {}
    for name, block in blocks.items():
        if name in opened:
            for part, unit in block.opened():
                ends[name] = f"{name}.{part}"
                units[ends[name]] = unit
                stride *= unit.conv.stride[0]
                info.append(UnitInfo(ends[name], unit.conv.out_channels, stride))
        else:
            units[name] = block
            stride *= block.stride
            last, _ = block.step(block.convolutions[-1])
            info.append(UnitInfo(name, last.out_channels, stride))
    stages = {name.split(".")[0]: ends.get(name, name) for name in blocks}
    return StagedBackbone(units, info, stages, ends)


def _opened(blocks: Sequence[str], options: Options) -> set[str]:
    """The names of the blocks to open."""
    chosen: set[str] = set()
    for name in options.open:
        found = {b for b in blocks if name in ("all", b, b.split(".")[0])}
        if not found:
            valid = ["all", *LAYERS, *blocks]
            raise UserError(unknown("backbone.open", "residual unit", name, valid))
        chosen |= found
    return chosen

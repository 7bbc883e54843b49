"""Any ConvNeXt and any ViT of timm, by timm's names; every block is a unit.

A ConvNeXt takes `width` and `stem: small` (every strided convolution of its stem becomes 3×3 with
stride 1). A ViT takes neither. Where the size of the images is known its position embeddings are
made (and pretrained ones resampled) for it once, otherwise at every pass.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022; Dosovitskiy et al., "An Image is Worth
16x16 Words", ICLR 2021; Wightman, "PyTorch Image Models", 2019.
"""

from __future__ import annotations

import copy
import math
import sys
from collections import OrderedDict
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from polytask.backbones import weights
from polytask.backbones.options import Options
from polytask.backbones.staged import StagedBackbone, UnitInfo
from polytask.backbones.stem import small_convolution
from polytask.backbones.tokens import TokenBackbone
from polytask.errors import Fault, UserError, nearest

NAMES = {
    "convnext_atto": "12 ConvNeXt blocks, 3.4 M parameters (timm; any convnext* works)",
    "convnext_tiny": "18 ConvNeXt blocks, 28 M parameters (timm)",
    "convnextv2_atto": "12 ConvNeXt blocks with response norm, 3.4 M parameters (timm)",
    "vit_tiny_patch16_224": "12 transformer blocks, 5.5 M parameters (timm; any vit* works)",
    "vit_small_patch16_224": "12 transformer blocks, 22 M parameters (timm)",
    "vit_base_patch16_224": "12 transformer blocks, 86 M parameters (timm)",
    "vit_small_patch16_dinov3": "12 transformer blocks with rotary positions, 22 M (timm)",
}
FAMILIES = ["convnext*", "vit*"]


def build(name: str, options: Options) -> StagedBackbone:
    """Build a ConvNeXt or ViT of timm.

    Raises:
        UserError: timm has no such model, or the options do not fit its family.
    """
    import timm

    known = [m for tags in (False, True) for m in timm.list_models(FAMILIES, include_tags=tags)]
    if name not in known:
        problem = f'timm {timm.__version__} has no model "{name}".'
        raise UserError.at("backbone.name", problem, nearest(name, known))
    is_vit = name.startswith("vit")
    options.refuse(options.only_all(name), *(_no_vit(name, options) if is_vit else ()))
    network = _vit(name, options) if is_vit else _convnext(name, options)
    first = network.pretrained_cfg["first_conv"]
    weights.load(
        network,
        options,
        offered=partial(weights.from_timm, name),
        first=first if isinstance(first, str) else first[0],
        head=("head.", "head_", "fc_norm.", "attn_pool."),
        translated=partial(_translated, name, network),
    )
    return TokenBackbone(network, _is_fixed(name, options)) if is_vit else ConvNeXt(network)


def _translated(name: str, network: nn.Module, state: dict[str, Tensor]) -> weights.State:
    """Weights of the authors' own key names, or for another size of images, as timm reads them."""
    import timm

    home = sys.modules[timm.model_entrypoint(name).__module__]
    try:
        found: weights.State = home.checkpoint_filter_fn(state, network)
    except (KeyError, RuntimeError, AttributeError, ValueError):
        return state  # it expects a file of its own network; the fault is told by its keys
    return found


def _no_vit(name: str, options: Options) -> list[Fault]:
    faults = []
    if options.width != 1:
        problem = f"got {options.width}; {name} has no width multiplier."
        faults.append(Fault("backbone.width", problem, "Choose a smaller ViT, as vit_tiny_…"))
    if options.stem == "small":
        problem = f"{name} has no small stem: its patches are part of its name."
        faults.append(Fault("backbone.stem", problem, "Choose a ViT of smaller patches."))
    return faults


def _is_fixed(name: str, options: Options) -> bool:
    """Whether positions are made for one size: where it is known, or they cannot be resampled."""
    return options.size is not None or "relpos" in name


def _vit(name: str, options: Options) -> Any:
    import timm

    sizes: dict[str, Any] = {"img_size": options.size} if options.size else {}
    if not _is_fixed(name, options):
        sizes["dynamic_img_size"] = True
    return timm.create_model(name, num_classes=0, in_chans=options.channels, **sizes)


def _convnext(name: str, options: Options) -> Any:
    import timm

    dims: dict[str, Any] = {}
    if options.width != 1:
        with torch.device("meta"):
            original = timm.create_model(name)
        dims["dims"] = [options.scaled(stage["num_chs"]) for stage in original.feature_info]
    network = timm.create_model(name, num_classes=0, in_chans=options.channels, **dims)
    if options.stem == "small":
        _make_small(network.stem)
    return network


def _make_small(stem: nn.Sequential) -> None:
    for index, conv in enumerate(stem):
        if isinstance(conv, nn.Conv2d):
            stem[index] = small = small_convolution(conv, conv.in_channels)
            nn.init.trunc_normal_(small.weight, std=0.02)
            if small.bias is not None:
                nn.init.zeros_(small.bias)


class ConvNeXt(StagedBackbone):
    """Units `stem`, `stages.0.blocks.0`, …; what halves the map opens the next stage's first one.

    The norm that some variants have before pooling belongs to the last unit.
    """

    def __init__(self, network: Any) -> None:
        units: dict[str, nn.Module] = {"stem": network.stem}
        convolutions = [step for step in network.stem if isinstance(step, nn.Conv2d)]
        stride = math.prod(conv.stride[0] for conv in convolutions)
        info = [UnitInfo("stem", convolutions[-1].out_channels, stride)]
        stages: dict[str, str] = {}
        for i, stage in enumerate(network.stages):
            opening = [m for m in stage.downsample.modules() if isinstance(m, nn.Conv2d)]
            stride *= math.prod(conv.stride[0] for conv in opening)
            for j, block in enumerate(stage.blocks):
                name = stages[f"stages.{i}"] = f"stages.{i}.blocks.{j}"
                parts = {"downsample": stage.downsample} if opening and j == 0 else {}
                units[name] = nn.Sequential(OrderedDict({**parts, "block": block}))
                info.append(UnitInfo(name, network.feature_info[i]["num_chs"], stride))
        units[name].add_module("norm", network.norm_pre)
        super().__init__(units, info, stages)
        # The classifier has a norm of its own: kept where it is no submodule.
        self.head = partial(copy.deepcopy, network.head)

    def classifier(self, classes: int) -> nn.Module:
        """timm's: pool, norm (in most variants behind the pool), one linear layer."""
        head: Any = self.head()
        head.reset(classes)
        return cast(nn.Module, head)

"""Source networks with weights that leave nothing to chance, and our backbones with the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from polytask.backbones import build
from polytask.backbones.staged import StagedBackbone


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def _randomised(network: nn.Module) -> nn.Module:
    """Give every weight and statistic a value of its own, so that none can be mistaken."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.1)
            module.num_batches_tracked.fill_(7)
    return network.eval()


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Replace a network's weights and statistics."""
    return _randomised


@pytest.fixture
def torchvision_source() -> Callable[..., nn.Module]:
    """Make a network of torchvision without paying for its classifier."""

    def make(name: str, classifier: str, **options: Any) -> nn.Module:
        import torchvision

        with torch.device("meta"):
            network: nn.Module = getattr(torchvision.models, name)(**options)
        setattr(network, classifier, nn.Identity())
        return _randomised(network.to_empty(device="cpu"))

    return make


@pytest.fixture
def ours(tmp_path: Path) -> Callable[..., StagedBackbone]:
    """Build a backbone with the weights of a source network, through a file."""

    def make(name: str, source: nn.Module, **options: Any) -> StagedBackbone:
        file = tmp_path / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in source.state_dict().items()}, file)
        return build(name, weights=file, **options).eval()

    return make

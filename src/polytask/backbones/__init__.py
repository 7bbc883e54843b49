"""Networks cut into named units: `build` makes any of them by its name in a config."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

from polytask import registry
from polytask.registry import Entry

if TYPE_CHECKING:
    from polytask.backbones.staged import StagedBackbone

NOT_NAMES = (
    "staged",
    "options",
    "stem",
    "residual",
    "plain",
    "tokens",
    "weights",
    "norm",
    "sliced",
    "strided",
)
TIMM = re.compile(r"(convnext|vit)\w*(\.\w+)?")


def find(name: str, where: str = "backbone.name") -> Entry:
    """The entry of a backbone, without importing torch; timm's families have no full list here.

    Raises:
        UserError: no family knows the name; the nearest valid one is given. A name of timm's
            families is looked up by `build`, when timm is there to ask.
    """
    if name not in registry.entries("backbones") and TIMM.fullmatch(name):
        return Entry(name, "a model of timm", "", f"{__name__}.timm_models", "backbones")
    return registry.find("backbones", name, where)


def build(name: str, **options: Any) -> StagedBackbone:
    """Build a backbone; its initial weights follow torch's random state.

    Args:
        name: a name of `polytask list backbones`, or any ConvNeXt or ViT of timm.
        options: see `polytask.backbones.options.Options`.

    Raises:
        UserError: the name, an option, their combination or the weights file is wrong.
    """
    from polytask.backbones.options import Options

    entry = find(name)
    home = importlib.import_module(entry.module)
    chosen = Options.of(**options)
    network: StagedBackbone = getattr(home, entry.attribute or "build")(name, chosen)
    return network

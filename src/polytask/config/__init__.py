"""The YAML of a comparison: reading it, every error a user can make in it, and writing it.

A config is read in two passes. The first knows names, structure and the common keys, and imports no
torch; the second checks the options of tasks, methods and balancers against their classes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.config.checking import read_config as read_config
    from polytask.config.models import BackboneConfig as BackboneConfig
    from polytask.config.models import Config as Config
    from polytask.config.models import MethodEntry as MethodEntry
    from polytask.config.models import MethodOptions as MethodOptions
    from polytask.config.models import TaskOptions as TaskOptions
    from polytask.config.train import TrainConfig as TrainConfig

# Imported when used: pydantic's models take a third of the time that `polytask init` may take.
_HOMES = {
    "BackboneConfig": "models",
    "Config": "models",
    "MethodEntry": "models",
    "MethodOptions": "models",
    "TaskOptions": "models",
    "TrainConfig": "train",
    "read_config": "checking",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

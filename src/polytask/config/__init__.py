"""The YAML of a comparison: reading it, every error a user can make in it, and writing it.

A config is read in two passes. The first knows names, structure and the common keys, and imports no
torch; the second checks the options of tasks, methods and balancers against their classes.
"""

from polytask.config.checking import read_config
from polytask.config.models import (
    BackboneConfig,
    Config,
    MethodEntry,
    MethodOptions,
    TaskOptions,
)
from polytask.config.train import TrainConfig

__all__ = [
    "BackboneConfig",
    "Config",
    "MethodEntry",
    "MethodOptions",
    "TaskOptions",
    "TrainConfig",
    "read_config",
]

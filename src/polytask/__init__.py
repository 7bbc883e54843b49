"""polytask: one image network for many vision tasks, with an honest verdict on sharing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.compare import compare as compare
    from polytask.deploy import load as load
    from polytask.training import train as train
    from polytask.training import transfer as transfer

__version__ = "0.1.0"

# Imported when used, so that `import polytask` loads no torch.
_HOMES = {
    "compare": "polytask.compare",
    "train": "polytask.training",
    "transfer": "polytask.training",
    "load": "polytask.deploy",
    "Batch": "polytask.batch",
    "Group": "polytask.batch",
    "Target": "polytask.batch",
    "Task": "polytask.tasks.task",
    "StagedBackbone": "polytask.backbones.staged",
    "SharingMethod": "polytask.sharing.method",
    "Trunk": "polytask.sharing.trunk",
    "Columns": "polytask.sharing.columns",
    "Phase": "polytask.phase",
    "read_config": "polytask.config",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'polytask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

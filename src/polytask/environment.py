"""What a bug report needs: versions, devices, limits, and which optional parts are installed."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polytask.compare.machine import cores, free_bytes

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "torchjd",
    "torchmetrics",
    "numpy",
    "pydantic",
    "pillow",
)
# The modules that tell whether an extra of pyproject.toml is installed.
EXTRAS = {
    "balance": ("qpsolvers", "cvxpy"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "parquet": ("pyarrow",),
    "search": ("optuna",),
    "hdf5": ("h5py",),
    "hf": ("datasets",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "ray": ("ray",),
}
GIB = 2**30


def environment(folder: Path) -> dict[str, Any]:
    """Describe this machine and installation; `folder` is where runs would be written."""
    free = free_bytes()
    return {
        "polytask": version("polytask"),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "cores": cores(),
        "threads": _threads(),
        "memory_free_gib": None if free is None else round(free / GIB, 1),
        "disk_free_gib": round(shutil.disk_usage(folder).free / GIB, 1),
        "extras": {name: all(map(find_spec, modules)) for name, modules in EXTRAS.items()},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import torch

    found = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}, "
        f"{torch.cuda.get_device_properties(i).total_memory / GIB:.1f} GiB"
        for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        found.append("mps")
    return ["cpu", *found]


def _threads() -> dict[str, Any]:
    import torch

    return {"torch": torch.get_num_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}

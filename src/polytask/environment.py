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
    "hdf5": ("h5py",),
}
GIB = 2**30


def environment(folder: Path) -> dict[str, Any]:
    """Describe this machine and installation; `folder` is where runs would be written."""
    return {
        "polytask": version("polytask"),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "cores": usable_cores(),
        "threads": _threads(),
        "memory_gib": _memory(),
        "disk_free_gib": round(shutil.disk_usage(folder).free / GIB, 1),
        "extras": {name: all(map(find_spec, modules)) for name, modules in EXTRAS.items()},
    }


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def _memory() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)

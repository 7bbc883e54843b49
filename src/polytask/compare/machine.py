"""What this machine has left for training: cores, memory and GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

RUN_BYTES = 1.2e9  # a worker: torch, a small network and its data
GPU_RUN_MIB = 8192  # leaves room for large networks; --jobs says otherwise
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def default_jobs(runs: int, devices: int = 1) -> int:
    """How many runs to train at once: a core and 1.2 GB of free memory each, 8 GB of a GPU; as
    much for each of its `devices`."""
    most = cores()
    free = free_bytes()
    if free is not None:
        most = min(most, int(free / RUN_BYTES))
    found = gpus()
    if found:
        most = min(most, sum(max(1, mib // GPU_RUN_MIB) for mib in found.values()))
    return max(1, min(runs, most // devices))


def cores() -> int:
    """The cores that this process may use; a container's share counts."""
    try:
        own = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        own = os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        own = min(own, round(int(quota) / int(period)))
    return max(1, own)


def free_bytes() -> float | None:
    """Free memory, within the container's limit; `None` where the system does not say."""
    available = _field(MEMINFO, "MemAvailable:")
    limit = _read(CGROUP / "memory.max")
    used = _field(CGROUP / "memory.stat", "anon")  # the page cache can be given back
    known = [1024.0 * available] if available is not None else []
    if limit.isdecimal() and used is not None:
        known.append(float(int(limit) - used))
    return min(known) if known else None


def gpus() -> dict[str, int]:
    """The NVIDIA GPUs that this process may use: their memory in MiB by number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible in ("", "-1"):
        return {}
    query = [program, "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [line.replace(" ", "").split(",") for line in asked.stdout.splitlines()]
    found = {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
    chosen = visible.split(",") if visible else list(found)
    return {number: found[number] for number in chosen if number in found}


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _field(path: Path, name: str) -> int | None:
    """The number after a name in a table of the system."""
    rows = (line.split() for line in _read(path).splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), None)

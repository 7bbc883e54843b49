"""The hash of a run, and finding a finished run with the same one."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.config.train import NO_RESULT
from polytask.registry import PACKAGE

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry

PACKAGES = ("polytask", "torch", "torchvision", "timm", "torchjd", "torchmetrics", "numpy")

# Finished runs that an overwritten comparison leaves behind for reuse.
KEPT = ".finished"


def run_hash(
    config: Config, entry: MethodEntry, seed: int, data_fingerprint: Mapping[str, str]
) -> str:
    """A hash of all that decides a run's result: config, method, seed, data and versions.

    The comparison's other methods and seeds do not count, nor does the name of the entry.
    """
    aside = {"methods", "seeds", "name", "folder", "search", "pretraining"}
    resolved = config.model_dump(
        mode="json", exclude={**dict.fromkeys(aside, True), "train": set(NO_RESULT)}
    )
    parts = {
        "config": resolved,
        "method": entry.name,
        # The run that it learns from counts by its weights, wherever it stands.
        "options": entry.options.model_dump(mode="json", exclude={"transfer": {"run"}}),
        "seed": seed,
        "data": dict(data_fingerprint),
        "start": [_digest(path) for path in _starts(config, entry)],
        "versions": versions(),
        "code": code_digest(),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _starts(config: Config, entry: MethodEntry) -> list[Path]:
    """The files that weights are read from."""
    chosen, folder = config.backbone, config.folder
    transfer = entry.options.transfer
    runs = [run for run in (chosen.init, transfer and transfer.run) if run]
    weights = [folder / chosen.weights] if chosen.weights else []
    return [*(folder / run / "model.safetensors" for run in runs), *weights]


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    """The versions that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@cache
def code_digest() -> str:
    """A digest of the package's sources, so that an edited package reuses no result."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def reusable(comparison: Path, wanted: str, folder: Path) -> dict[str, Any] | None:
    """Copy a finished run of the same hash, kept in the comparison's folder, into `folder`."""
    for result in sorted(comparison.glob(f"{KEPT}/*/result.json")):
        content: dict[str, Any] = json.loads(result.read_text("utf-8"))
        if content.get("hash") == wanted:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(result.parent, partial)
            partial.rename(folder)
            return content
    return None

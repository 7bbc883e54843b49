"""Files of a run: replaced atomically, and nothing in them can run code."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polytask.errors import RunError

STATE = Path("state") / "checkpoint.pt"
BEST = Path("state") / "best.safetensors"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: after a crash it holds the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Replace a text file in one step."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write what resuming needs: tensors, numbers and text only."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_bytes(folder / STATE, buffer.getvalue())


def drop_state(folder: Path) -> None:
    """Delete what only resuming needs, half-written files of killed processes included."""
    for path in (*(folder / STATE.parent).glob(f".{STATE.name}.*"), folder / STATE):
        path.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The state to go on from, or `None` at the very start.

    Raises:
        RunError: the file cannot be read.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise RunError.at(
            str(path),
            f"cannot be read ({type(error).__name__}); expected the state of an unfinished run.",
            "Delete the run folder, or use --overwrite.",
        ) from error
    return state


def save_weights(path: Path, module: nn.Module) -> None:
    """Write parameters and buffers as safetensors, the same bytes for the same values."""
    from safetensors.torch import save

    from polytask import __version__

    tensors: dict[str, Tensor] = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in sorted(module.state_dict().items())
        if isinstance(value, Tensor)
    }
    write_bytes(path, save(tensors, metadata={"polytask": __version__}))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load what `save_weights` wrote.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError.at(str(path), f"cannot be read: {error}") from error
    own = {k for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    if own != set(tensors):
        missing, extra = sorted(own - set(tensors)), sorted(set(tensors) - own)
        raise RunError.at(
            str(path),
            f"holds another network: missing {missing[:3]}, not expected {extra[:3]}",
        )
    module.load_state_dict(tensors, strict=False)

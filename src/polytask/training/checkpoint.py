"""Files of a run: replaced atomically, and nothing in them can run code."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polytask.errors import Fault, RunError
from polytask.json_text import json_text

STATE = Path("state") / "checkpoint.pt"
BEFORE = Path("state") / "before.pt"  # the state saved before that one
BEST = Path("state") / "best.safetensors"


# What a file of state begins with: the number of its format, and a hash of all that follows.
HEADER = b"polytask state %d %s\n"
FORMAT = 1


def write_bytes(path: Path, content: bytes, before: Path | None = None) -> None:
    """Replace a file in one step: after a crash it holds the old content or the new.

    `before` takes the old content, should it be wanted again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        if before is not None and path.exists():
            path.replace(before)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Replace a text file in one step."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json_text(content) + "\n")


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write what resuming needs, tensors, numbers and text only; keep the state before it."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    write_bytes(folder / STATE, _header(FORMAT, content) + content, folder / BEFORE)


def _header(number: int, content: bytes) -> bytes:
    return HEADER % (number, hashlib.blake2b(content, digest_size=16).hexdigest().encode())


def drop_state(folder: Path) -> None:
    """Delete what only resuming needs, half-written files of killed processes included."""
    for path in (
        *(folder / STATE.parent).glob(f".{STATE.name}.*"),
        folder / STATE,
        folder / BEFORE,
    ):
        path.unlink(missing_ok=True)


def load_state(folder: Path, tell: Callable[[str], object] = str) -> dict[str, Any] | None:
    """The state to go on from, or `None` at the very start.

    A damaged file is passed over for the one saved before it, which `tell` hears of: the run then
    repeats some steps and ends in the same weights.

    Raises:
        RunError: there is a state, but none that can be read.
    """
    faults: list[Fault] = []
    for path in (folder / STATE, folder / BEFORE):
        if not path.exists():
            continue
        try:
            state = _read_state(path)
        except RunError as error:
            faults += error.faults
            continue
        for fault in faults:
            tell(f"{fault.where}: {fault.problem} Going on from the state before it.")
        return state
    if faults:
        raise RunError(faults)
    return None


def _read_state(path: Path) -> dict[str, Any]:
    way_out = "Use --overwrite to start again."
    head, _, content = path.read_bytes().partition(b"\n")
    found = re.fullmatch(rb"polytask state (\d+) ([0-9a-f]{32})", head)
    if found is not None and int(found[1]) != FORMAT:
        raise RunError.at(
            str(path),
            f"has format {int(found[1])}, of another version of polytask; expected {FORMAT}.",
            f"Go on with the version that wrote it (log.txt). {way_out}",
        )
    if found is None or _header(FORMAT, content) != head + b"\n":
        problem = "is damaged, its checksum does not match; expected the state of a stopped run."
        raise RunError.at(str(path), problem, way_out)
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), weights_only=True, map_location="cpu"
        )
    except Exception as error:
        problem = f"cannot be read ({type(error).__name__}); expected the state of a stopped run."
        raise RunError.at(str(path), problem, way_out) from error
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

"""All tasks of a run in one file that holds every kernel once, however many tasks run it.

The file holds whichever is smaller, taken apart into the rows of its weights (a kernel each), rows
of equal bits once: the tasks' paths, where `kernel_sharing` mixes kernels in pairs of two or ties
them with `update: inplace`; or the network that paths are made from, where a task's weights are its
own view of common ones, as the frozen trunk and the small matrices of `adapters`, or the trunk and
the masks of `packnet`. Nothing is rounded, so predictions are those of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from polytask.deploy.export import tensors_of
from polytask.deploy.model import Model
from polytask.deploy.run_folder import Description
from polytask.errors import RunError
from polytask.randomness import stable_hash
from polytask.training.output import CONFIG, DESCRIPTION, check_place

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod

FILE = "shared.safetensors"
ROWS, AT = "rows/", "at/"
NETWORK = ""  # in the place of a task: no task is called that


@dataclass(frozen=True)
class Shared:
    """The file of several tasks; `weights` are the bytes of its kernels and of what says where they
    go, `separate` those of the tasks' paths as one file each, `kernels` and `stored` count rows."""

    file: Path
    bytes: int
    weights: int
    separate: int
    kernels: int
    stored: int


def export_shared(model: Model, tasks: Iterable[str], out: Path) -> Shared:
    """Write `shared.safetensors` into the folder `out`, read it back and compare predictions.

    Raises:
        RunError: the model is of such a file itself, or the folder cannot be written to.
    """
    if not model.folder.is_dir():
        problem = "holds every kernel once already; expected the folder of a run."
        raise RunError.at(str(model.folder), problem)
    from safetensors.torch import save

    from polytask.training.checkpoint import write_bytes

    tasks = list(tasks)
    paths = {task: model.path(task).state_dict() for task in tasks}
    network = {NETWORK: _state(model.network, tasks)}
    ways = [(states, _taken_apart(states)) for states in (paths, network)]
    ways.sort(key=lambda way: _bytes(way[1].values()))
    check_place(out)
    for states, kept in ways:
        metadata = {
            "config": (model.folder / CONFIG).read_text("utf-8"),
            "description": (model.folder / DESCRIPTION).read_text("utf-8"),
            "shapes": json.dumps({name: _shapes(state) for name, state in states.items()}),
            "tasks": json.dumps(tasks),
        }
        content = save(kept, metadata=metadata)
        if _is_same(model, SharedModel(content, out / FILE)):
            break
    else:
        raise RuntimeError(f"{', '.join(tasks)}, read back, predict otherwise")
    write_bytes(out / FILE, content)
    whole = [value for state in paths.values() for value in state.values()]
    return Shared(
        out / FILE,
        len(content),
        _bytes(kept.values()),
        _bytes(whole),
        sum(map(_rows, whole)),
        sum(len(value) for name, value in kept.items() if name.startswith(ROWS)),
    )


def _state(network: SharingMethod, tasks: Iterable[str]) -> dict[str, Tensor]:
    """What a network knows by name, without weights that none of the tasks has learned in; frozen
    ones are in no task's view."""
    serving = {p for task in tasks for p in network.view(task)}
    return {
        name: value.detach()
        for name, value in network.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor) and (not value.requires_grad or value in serving)
    }


class SharedModel(Model):
    """A model from a file of shared kernels, which needs no run folder.

    Raises:
        RunError: the file is damaged, or no such file.
    """

    def __init__(self, content: bytes, file: Path) -> None:
        from safetensors import SafetensorError

        from polytask.config import read_config

        try:
            metadata = _metadata(content)
            description = Description.model_validate_json(metadata["description"])
            config = _plain(metadata["config"])
            tasks = json.loads(metadata["tasks"])
            tensors = _put_together(content, json.loads(metadata["shapes"]))
        except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
            problem = "is damaged; expected a file that export --shared wrote."
            raise RunError.at(str(file), problem, "Export it again.") from error
        start = {"pretrained": False, "weights": None, "init": None}
        config["backbone"] = {**config.get("backbone", {}), **start}
        super().__init__(file, description, read_config(config))
        self.tasks = {task: self.tasks[task] for task in tasks}
        self._tensors = tensors
        if NETWORK in tensors:  # the rest of it serves other tasks
            self.network.load_state_dict(tensors[NETWORK], strict=False)

    def path(self, task: str) -> nn.Module:
        if task in self._tensors and task not in self._paths:
            made = self.network.path(task)
            made.load_state_dict(self._tensors[task])
            self._paths[task] = made
        return super().path(task)


def load_shared(file: Path) -> SharedModel:
    """The tasks of a file that `export --shared` wrote.

    Raises:
        RunError: the file is damaged.
    """
    return SharedModel(file.read_bytes(), file)


def _taken_apart(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Distinct rows by type and length, and for each tensor where its rows are."""
    kept: dict[str, Tensor] = {}
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for task, state in states.items():
        for name, value in state.items():
            flat = value.detach().cpu().contiguous().reshape(_rows(value), -1).numpy()
            rows.setdefault(_kind(value), []).append((f"{AT}{task}/{name}", flat))
    for kind, parts in rows.items():
        every = np.concatenate([part for _, part in parts])
        raw = np.ascontiguousarray(every).view(np.dtype((np.void, every[:1].nbytes))).ravel()
        _, first, place = np.unique(raw, return_index=True, return_inverse=True)
        order = np.argsort(first)  # rows stay in the order in which paths name them
        kept[ROWS + kind] = torch.from_numpy(every[first[order]].copy())
        rank = np.argsort(order).astype(np.int32)
        at = 0
        for name, part in parts:
            kept[name] = torch.from_numpy(rank[place.ravel()[at : at + len(part)]].copy())
            at += len(part)
    return kept


def _put_together(content: bytes, shapes: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    from safetensors.torch import load

    kept = load(content)
    return {
        task: {
            name: kept[ROWS + kind][kept[f"{AT}{task}/{name}"].long()].reshape(shape)
            for name, (kind, shape) in state.items()
        }
        for task, state in shapes.items()
    }


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[str, list[int]]]:
    """The kind of a tensor's rows, and its shape."""
    return {name: (_kind(value), list(value.shape)) for name, value in state.items()}


def _rows(value: Tensor) -> int:
    """The rows that a tensor is taken apart into: kernels, or the whole of a vector."""
    return len(value) if value.ndim > 1 else 1


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}/{value.numel() // _rows(value)}"


def _is_same(model: Model, again: SharedModel) -> bool:
    """Whether a file gives a model's very predictions: paths that depend on what was learned do not
    come back from the config and their own weights."""
    for task in again.tasks:
        seen = model.input_of(task)
        generator = torch.Generator().manual_seed(stable_hash("export", task))
        images = torch.randn(2, seen.channels, seen.height, seen.width, generator=generator)
        try:
            path = again.path(task)
        except RuntimeError:
            return False
        with torch.inference_mode():
            pairs = zip(tensors_of(path(images)), tensors_of(model.path(task)(images)), strict=True)
            if not all(torch.equal(found, expected) for found, expected in pairs):
                return False
    return True


def _bytes(values: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)


def _metadata(content: bytes) -> dict[str, str]:
    """The text beside the tensors: a JSON header behind its length in eight bytes."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return found


def _plain(text: str) -> dict[str, Any]:
    import yaml

    found = yaml.safe_load(text)
    if not isinstance(found, dict):
        raise ValueError("expected a config")
    return found

"""One task as a file that runs without polytask: ONNX or torch.export, with its description."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from polytask import __version__
from polytask.deploy.model import Model
from polytask.errors import MissingExtra
from polytask.json_text import json_text
from polytask.randomness import stable_hash
from polytask.training.output import check_place

Format = Literal["onnx", "torch"]
SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
NEEDS = ("onnx", "onnxscript", "onnxruntime")
# Fused and reordered sums differ in float32's last digits, not more: in those of the largest number
# of a class or column, which regressions give in units of any size.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Exported:
    """A task's file; `weights` are the bytes of its path's parameters and buffers, `difference` the
    largest one between its outputs and the network's."""

    task: str
    file: Path
    bytes: int
    params: int
    weights: int
    difference: float


def export(model: Model, task: str, out: Path, format: Format = "onnx") -> Exported:
    """Write `<task>.onnx` (or `.pt2`) and `<task>.json` into the folder `out`.

    The file takes normalised images [B, 3, H, W], any B, and holds the task's path alone. It is
    read back and held against the network on random images before it is kept.

    Raises:
        MissingExtra: ONNX is wanted and its packages are not installed.
        RuntimeError: what was exported does not give the network's outputs.
    """
    if format == "onnx" and not all(map(find_spec, NEEDS)):
        raise MissingExtra("ONNX export", "export")
    path, seen = model.path(task), model.input_of(task)
    generator = torch.Generator().manual_seed(stable_hash("export", task))
    shape = (seen.channels, seen.height, seen.width)
    images = torch.randn(3, *shape, generator=generator)
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{task}{SUFFIX[format]}"
    partial = file.with_name(f".partial.{file.name}")
    write = _write_onnx if format == "onnx" else _write_torch
    try:
        with _quiet():
            run = write(path, images[:2], partial)
            # Both another batch size than the traced one, and a single image.
            apart = [_difference(run, path, images), _difference(run, path, images[:1])]
        difference, relative = map(max, zip(*apart, strict=True))
        if not relative <= TOLERANCE:
            raise RuntimeError(f"the exported {task} differs from the network by {difference:.2g}")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    exported = Exported(
        task,
        file,
        file.stat().st_size,
        sum(p.numel() for p in path.parameters()),
        sum(t.numel() * t.element_size() for t in (*path.parameters(), *path.buffers())),
        difference,
    )
    description = json_text(_describe(model, exported))
    (out / f"{task}.json").write_text(description + "\n", "utf-8")
    return exported


def _describe(model: Model, exported: Exported) -> dict[str, Any]:
    task, seen = model.tasks[exported.task], model.input_of(exported.task)
    return {
        "file": exported.file.name,
        **task.describe(),
        "input": {
            "name": "images",
            "shape": ["batch", seen.channels, seen.height, seen.width],
            "type": "float32",
            "channels": "RGB",
            "value": "(pixel / 255 - mean) / std",
            "mean": list(model.normalisation.mean),
            "std": list(model.normalisation.std),
        },
        "params": exported.params,
        "max_difference": exported.difference,
        "method": model.method,
        "seed": model.seed,
        "polytask": __version__,
    }


Run = Callable[[Tensor], list[Tensor]]


def _write_onnx(path: nn.Module, images: Tensor, file: Path) -> Run:
    import onnxruntime

    with torch.inference_mode():
        prediction = path(images)
    names = list(prediction) if isinstance(prediction, dict) else ["prediction"]
    torch.onnx.export(
        path,
        (images,),
        file,
        dynamo=True,
        external_data=False,
        input_names=["images"],
        output_names=names,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(a) for a in session.run(None, {"images": images.numpy()})]

    return run


def _write_torch(path: nn.Module, images: Tensor, file: Path) -> Run:
    batch = torch.export.Dim("batch")
    program = torch.export.export(path, (images,), dynamic_shapes=({0: batch},))
    with file.open("wb") as sink:
        torch.export.save(program, sink)
    with file.open("rb") as source:
        module = torch.export.load(source).module()
    return lambda images: tensors_of(module(images))


def _difference(run: Run, path: nn.Module, images: Tensor) -> tuple[float, float]:
    """The largest difference of the outputs, and as a share of their column's largest, or of 1."""
    with torch.inference_mode():
        expected = tensors_of(path(images))
        found = run(images)
    apart, shares = [], []
    for a, b in zip(found, expected, strict=True):
        distance = (a.double() - b.double()).abs()
        others = [axis for axis in range(b.ndim) if axis != 1]
        shares.append(distance / b.double().abs().amax(others, keepdim=True).clamp(min=1))
        apart.append(distance)
    return max(float(d.max()) for d in apart), max(float(s.max()) for s in shares)


def tensors_of(prediction: Any) -> list[Tensor]:
    """The tensors of a prediction, in order."""
    return list(prediction.values()) if isinstance(prediction, dict) else [prediction]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks on their own insides from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""A task's path alone against the whole model: the time of one image against its MACs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import polytask
from benchmarks.timing import Result, Target, alternate, ratios
from benchmarks.workload import TASKS, Workload
from polytask.batch import Batch
from polytask.batch import Target as Labels
from polytask.cost import measure
from polytask.deploy.export import NEEDS, export

EXITS = dict(zip(TASKS, ("layer1", "layer2", "layer4"), strict=True))
SIDES = {64: 60, 224: 16}  # rounds by image size
CALLS = 3  # a round
AT_MOST = Target(high=1.15)
CONFIG = {  # a run to export: what it has learnt does not matter
    "data": {"digits": {"source": "printed_digits", "count": 50}},
    "tasks": {task: {"kind": "classification", "data": "digits"} for task in TASKS},
    "methods": [{"multi_exit": {"exits": EXITS}}],
    "train": {"epochs": 1},
}


def run(rounds: int | None) -> Iterator[Result]:
    """Time each path; ratios are in multiples of the ratio of MACs."""
    for side, usual in SIDES.items():
        yield from in_torch(side, rounds or usual)
    if all(map(find_spec, NEEDS)):
        yield from exported(64, rounds or SIDES[64])


def in_torch(side: int, rounds: int) -> Iterator[Result]:
    """The paths of a multi-exit network against all its tasks at once."""
    _, data, method = Workload(side=side).method("multi_exit", {"exits": EXITS})
    method = method.to(memory_format=torch.channels_last).eval()
    image = next(iter(data.scoring("test"))).groups[0].images[:1]
    whole = Batch.single(image, data.stream_of[TASKS[0]], {task: Labels() for task in TASKS})
    contenders = {task: partial(repeat, method.path(task), image) for task in TASKS}
    with torch.inference_mode():
        seconds = alternate({"whole": partial(repeat, method, whole), **contenders}, rounds)
    cost = measure(method)
    for task, leaves in EXITS.items():
        expected = cost.tasks[task].macs / cost.total.macs
        found = ratios(seconds[task], seconds["whole"], expected)
        work = f"path: exit {leaves}, {side} px, one image"
        yield Result(work, f"the whole model, × {expected:.2f} of MACs", found, AT_MOST)


def exported(side: int, rounds: int) -> Iterator[Result]:
    """The files of `polytask export` in ONNX Runtime, against that of the whole trunk."""
    import onnxruntime

    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = one_thread.inter_op_num_threads = 1
    image = {"images": torch.zeros(1, 3, side, side).numpy()}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        polytask.train(CONFIG, "multi_exit", out=run, overrides=[f"data.digits.size={side}"])
        macs = {
            t: c["macs"] for t, c in json.loads((run / "cost.json").read_text())["tasks"].items()
        }
        model = polytask.load(run)
        contenders = {}
        for task in TASKS:
            file = export(model, task, Path(folder)).file
            session = onnxruntime.InferenceSession(file, one_thread)
            contenders[task] = partial(repeat, partial(session.run, None), image)
    seconds = alternate(contenders, rounds)
    *early, last = TASKS
    for task in early:
        expected = macs[task] / macs[last]
        found = ratios(seconds[task], seconds[last], expected)
        work = f"path: exit {EXITS[task]}, exported, {side} px, one image"
        yield Result(work, f"the last exit's, × {expected:.2f} of MACs", found, AT_MOST)


def repeat(network: Callable[[Any], object], argument: Any) -> None:
    """Predict a few times."""
    for _ in range(CALLS):
        network(argument)

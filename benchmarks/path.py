"""A task's path alone against the whole model: the time of one image against its MACs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
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
from polytask.sharing.method import SharingMethod

EXITS = dict(zip(TASKS, ("layer1", "layer2", "layer4"), strict=True))
SIDES = {64: 60, 224: 16}  # rounds by image size
CALLS = 3  # a round
SIDE = 224  # of images that nested paths are timed on
AT_MOST = Target(high=1.15)
NESTED: dict[str, dict[str, Any]] = {
    "multi_path": {"branches": ["layer2", "layer3", "layer4"], "distill": False},
    "nested_net": {"ratios": [0.25, 0.5625, 1.0]},  # ½ and ¾ of the channels
}
MASKED: dict[str, dict[str, Any]] = {
    "packnet": {"capacities": [0.4, 0.7, 1.0]},
    "nested_net": {"scheme": "weight", "ratios": [0.4, 0.7, 1.0]},
}
KEPT = ([1, 0, 1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 1, 1, 1, 0], [1] * 8)  # blocks a task runs
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
    for name, options in NESTED.items():
        yield from nested(name, options, rounds or SIDES[SIDE])
    yield from nested("adashare", {}, rounds or SIDES[SIDE])
    for name, options in MASKED.items():
        yield from masked(name, options, rounds or SIDES[SIDE])
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


def nested(name: str, options: Mapping[str, Any], rounds: int) -> Iterator[Result]:
    """Smaller paths of a method against the one that is the whole trunk."""
    method, seconds = timed_paths(name, options, rounds)
    *smaller, whole = TASKS
    macs = {task: cost.macs for task, cost in measure(method).tasks.items()}
    for task in smaller:
        expected = macs[task] / macs[whole]
        found = ratios(seconds[task], seconds[whole], expected)
        work = f"path: {name}, {task}, {SIDE} px, one image"
        yield Result(work, f"its whole trunk, × {expected:.2f} of MACs", found, AT_MOST)


def masked(name: str, options: Mapping[str, Any], rounds: int) -> Iterator[Result]:
    """Paths whose masks save MACs on paper, against the one without: dense kernels save nothing."""
    method, seconds = timed_paths(name, options, rounds)
    *smaller, whole = TASKS
    cost = measure(method).tasks
    for task in smaller:
        left = cost[task].effective_macs / cost[task].macs
        work = f"path: {name} with masks, {task}, one image"
        against = f"without masks, × {left:.2f} effective"
        yield Result(work, against, ratios(seconds[task], seconds[whole]))


def timed_paths(
    name: str, options: Mapping[str, Any], rounds: int
) -> tuple[SharingMethod, dict[str, list[float]]]:
    """A method with initial weights, and the seconds of its tasks' paths."""
    _, data, method = Workload(side=SIDE).method(name, options)
    method = method.to(memory_format=torch.channels_last).eval()
    if name == "adashare":
        decided = {"decisions": torch.tensor(KEPT, dtype=torch.int8)}
        method.load_state_dict({**method.state_dict(), **decided})
    image = next(iter(data.scoring("test"))).groups[0].images[:1]
    contenders = {task: partial(repeat, method.path(task), image) for task in TASKS}
    with torch.inference_mode():
        return method, alternate(contenders, rounds)


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

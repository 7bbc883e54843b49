"""Two processes end with the losses and weights of one (DESIGN, Promises).

Every case trains in the same two processes, alone in one and in both, because they take seconds to
start.
"""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from polytask.config import read_config
from polytask.training import checkpoint
from polytask.training.assembly import Work
from polytask.training.processes import _free_port as free_port

STEPS = 20
HERE = Path(__file__).parent
BACKBONE = {"name": "resnet10", "stem": "small", "width": 0.0625}
# Case: method with its options, and what is special about the config.
CASES = {
    "single": ("single", {}),
    "hard": ({"hard": {"filter": True}}, {}),
    "multi_exit": (
        {"multi_exit": {"exits": {"read_handwriting": "layer2", "read_print": "layer4"}}},
        {},
    ),
    "mtan": ("mtan", {}),
    "layer_lasso": ("layer_lasso", {"backbone": {**BACKBONE, "name": "resnet18"}}),
    "mmoe": ({"mmoe": {"experts": 2}}, {}),
    "cross_stitch": ("cross_stitch", {}),
    "nddr": ("nddr", {}),
    "snr": ({"snr": {"l0": 0.01}}, {}),
    "kernel_sharing": ({"kernel_sharing": {"l2": 0.1, "refresh_every": 7}}, {}),
    "nested_net": ("nested_net", {}),
    "packnet": ("packnet", {}),
    "adashare": ("adashare", {}),
    "multi_path": ({"multi_path": {"branches": [0.5, 0.5]}}, {}),
    "ensemble": ({"hard": {"update": "temporal_ensemble"}}, {}),
    "multi_input": ("cross_stitch", {"mixing": "multi_input"}),
    "per_data": ("hard", {"norm": "per_data"}),
    "adapters": ({"adapters": {"layers": "layer4", "rank": 2}}, {}),
    "groups": ({"hard": {"groups": [["read_handwriting"], ["read_print"]]}}, {}),
    "compiled": ("hard", {"train": {"compile": "eager"}}),
    "two_views": (
        "hard",
        {
            "tasks": {
                "alike": {"kind": "simsiam", "data": "handwritten"},
                "taught": {"kind": "dino", "data": "handwritten", "answers": 16},
            },
            # By a larger one, rounding grows twentyfold a step in so small a network.
            "train": {"epochs": 12, "optimizer": {"name": "sgd", "lr": 0.001}},
        },
    ),
    "representation": ("hard", {"balancing": {"pcgrad": {"on": "representation"}}}),
    **{
        name: ("hard", {"balancing": name}) for name in ("uncertainty", "dtp", "pcgrad", "graddrop")
    },
}


def config_of(case):
    method, top = CASES[case]
    return read_config(
        {
            "data": {
                "handwritten": {"source": "digits", "fraction": 0.05, "size": 12},
                "printed": {"source": "printed_digits", "count": 90, "size": 12},
            },
            "tasks": {
                "read_handwriting": {"kind": "classification", "data": "handwritten"},
                "read_print": {"kind": "classification", "data": "printed"},
            },
            "backbone": BACKBONE,
            "methods": ["single", method] if case != "single" else ["single"],
            # An odd batch: neither the processes nor the data sets have equally many images.
            "train": {
                "epochs": 12 if "mixing" in top else 6,
                "batch": 26,
                "optimizer": {"name": "sgd", "lr": 0.02},
                "evaluate_every": 2,
                **top.get("train", {}),
            },
            "seeds": 1,
            **{key: value for key, value in top.items() if key != "train"},
        }
    )


@pytest.mark.slow
def test_twenty_steps_are_those_of_one_process(tmp_path):
    """One test, so that no other worker trains the same cases again for its share of them."""
    train_all(tmp_path)
    apart = {}
    for case in CASES:
        try:
            check(tmp_path, case)
        except AssertionError as error:
            apart[case] = str(error)
    assert not apart, "\n\n".join(f"{case}: {why}" for case, why in apart.items())


def train_all(home):
    works = [[work_of(case, home / size) for case in CASES] for size in "12"]
    listed = home / "works"
    listed.write_bytes(pickle.dumps(works))
    program = [sys.executable, str(HERE / "two_processes.py"), str(listed)]
    port = str(free_port())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen([*program, rank, "2", port], env=environment) for rank in ("0", "1")
    ]
    while None in (codes := [process.poll() for process in processes]) and not any(codes):
        time.sleep(0.2)
    for process in processes:  # the other of one that failed would wait for it
        process.kill()
    assert codes == [0, 0]


def work_of(case, folder):
    config = config_of(case)
    return Work(config, config.methods[-1], 0, folder / case, stop_after=STEPS)


def check(home, case):
    one, two = (checkpoint.load_state(home / size / case) for size in "12")
    assert one["done_steps"] == two["done_steps"] == STEPS
    assert one["images"] == two["images"]
    assert one["best"] == two["best"]
    for part in ("method", "loop"):
        torch.testing.assert_close(two[part], one[part], rtol=1e-6, atol=1e-8)

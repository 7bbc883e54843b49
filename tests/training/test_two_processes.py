"""Two processes end with the losses and weights of one (DESIGN, Promises).

Every case trains in the same two processes, because they take seconds to start.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from polytask.config import read_config
from polytask.training import checkpoint
from polytask.training.assembly import Work
from polytask.training.processes import _free_port as free_port

STEPS = 20
HERE = Path(__file__).parent
# Case: method with its options, and what is special about the config.
CASES = {
    "single": ("single", {}),
    "hard": ({"hard": {"filter": True}}, {}),
    "multi_exit": (
        {"multi_exit": {"exits": {"read_handwriting": "layer2", "read_print": "layer4"}}},
        {},
    ),
    "mtan": ("mtan", {}),
    "layer_lasso": ("layer_lasso", {}),
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

QUICK = ("hard", "packnet", "multi_input", "pcgrad", "representation")


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
            "backbone": {"name": "resnet18", "stem": "small", "width": 0.0625},
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


def run(cases, folder, size):
    folder.mkdir()
    works = []
    for case in cases:
        config = config_of(case)
        works.append(Work(config, config.methods[-1], 0, folder / case, stop_after=STEPS))
    listed = folder / "works"
    listed.write_bytes(pickle.dumps(works))
    port = str(free_port())
    program = [sys.executable, str(HERE / "two_processes.py"), str(listed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return [
        subprocess.Popen([*program, str(rank), str(size), port], env=environment)
        for rank in range(size)
    ]


def trained(cases, home):
    for size in (1, 2):
        for process in run(cases, home / str(size), size):
            assert process.wait(600) == 0


def test_twenty_steps_are_those_of_one_process(tmp_path):
    check_all(QUICK, tmp_path)


@pytest.mark.slow
def test_so_they_are_for_every_way_of_sharing(tmp_path):
    check_all([case for case in CASES if case not in QUICK], tmp_path)


def check_all(cases, home):
    """One test, so that no other worker trains the same cases again for its share of them."""
    trained(cases, home)
    apart = {}
    for case in cases:
        try:
            check(home, case)
        except AssertionError as error:
            apart[case] = str(error)
    assert not apart, "\n\n".join(f"{case}: {why}" for case, why in apart.items())


def check(home, case):
    one, two = (checkpoint.load_state(home / size / case) for size in "12")
    assert one["done_steps"] == two["done_steps"] == STEPS
    assert one["images"] == two["images"]
    assert one["best"] == two["best"]
    for part in ("method", "loop"):
        torch.testing.assert_close(two[part], one[part], rtol=1e-6, atol=1e-8)

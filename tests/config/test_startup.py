"""Reading a config at its first pass: no torch, and quick."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys, time
from polytask.config import read_config
from polytask.errors import ConfigError
read_config("digits", ["train.epochs=5"], options=False)
try:
    read_config({"tasks": {"a": {"kind": "clasification"}}, "trian": 1})
except ConfigError as error:
    faults = len(error.faults)
heavy = {"torch", "torchvision", "timm", "torchmetrics", "matplotlib", "sklearn"} & set(sys.modules)
print(json.dumps({"heavy": sorted(heavy), "faults": faults, "seconds": time.process_time()}))
"""


def test_names_and_structure_are_checked_without_torch():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["heavy"] == []
    assert said["faults"] == 3  # the kind, no data, the key
    assert said["seconds"] < 2  # of the processor; 0.4 where nothing else runs

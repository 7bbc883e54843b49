"""A trainer of the real one's form that takes milliseconds; a task's exit says how it fares."""

import json
import os
import signal

from polytask.errors import Diverged

SCORES = {"layer1": 0.5, "layer2": 0.9}


def train(config, entry, seed, folder, *, progress, resume, comparison, devices, is_teacher):
    assert comparison is None
    assert not is_teacher  # nobody waits for a trial
    if (folder / "result.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "attempts").open("a") as sink:
        sink.write("x")
    exit_ = getattr(entry.options, "exits", {}).get("shape")
    if exit_ == "layer2" and seed == 1 and len((folder / "attempts").read_text()) <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if exit_ == "layer3":
        raise Diverged("shape", 3, float("nan"))
    score = SCORES.get(exit_, 0.5) + 0.1 * seed
    (folder / "model.safetensors").write_bytes(b"")
    result = {
        "val": {"shape": {"accuracy": score}, "looks": {"accuracy": 0.5}},
        "primary": {"shape": "accuracy", "looks": "accuracy"},
    }
    (folder / "result.json").write_text(json.dumps(result))

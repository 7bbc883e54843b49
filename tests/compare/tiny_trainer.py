"""A trainer of the real one's form that takes milliseconds; the method's key says how it fares."""

import json
import os
import signal
import time

from run_results import COST, finished

from polytask.errors import Diverged, Lost, UserError

STEPS = 400


def check(config, devices):
    pass


def refuse(config, devices):
    raise UserError.at("shop.yaml:3 data.shelf", "no such file")


def occupy(config, devices):
    """Be another process that is faster."""
    (config.folder / "out").mkdir()
    (config.folder / "out" / "results.json").write_text("theirs")


def train(config, entry, seed, folder, *, progress, resume, comparison, devices, is_teacher):
    assert comparison == folder.parent.parent
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cost.json").write_text(json.dumps(COST))
    progress.run_started(f"{entry.key}/seed{seed}", STEPS)
    if seed == 1 and (entry.key == "dies_twice" or (entry.key == "dies" and is_new)):
        with (folder / "attempts").open("a") as sink:
            sink.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    if entry.key == "loses" and is_new:
        raise Lost("device 1 is lost: its process was ended by SIGKILL")
    if entry.key == "breaks" and seed == 2:
        with (folder / "attempts").open("a") as sink:
            sink.write("x")
        if is_new:
            raise ValueError("no good")
    if entry.key == "explodes":
        with (folder / "attempts").open("a") as sink:
            sink.write("x")
        raise Diverged("depth", 7, float("nan"))
    if entry.key == "wrong":
        raise UserError.at("shop.yaml:9 methods.1", "exit layer9 does not exist")
    if entry.key in ("slow", "mute"):
        take_time(folder, progress, is_mute=entry.key == "mute")
    read = 0.5 + 0.01 * seed + 0.02 * (entry.key != "single")
    result = dict(finished(entry.key, seed, read, 2.0).result)
    (folder / "result.json").write_text(json.dumps(result))
    progress.run_finished(f"{entry.key}/seed{seed}")
    return result


def take_time(folder, progress, is_mute):
    state = folder / "state"
    first = int(state.read_text()) if state.exists() else 0
    partial = folder / "pid.partial"
    partial.write_text(str(os.getpid()))
    partial.rename(folder / "pid")
    for step in range(first, STEPS):
        if not is_mute:
            progress.step(step, {"read": 1.0})
        if progress.is_stopping:
            state.write_text(str(step))
            raise KeyboardInterrupt
        if not first:
            time.sleep(0.05)

"""`--devices 2` and torchrun: started, resumed with another number, and losing a process."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from safetensors.torch import load_file

from polytask.errors import Failed, UserError
from polytask.training import preflight, processes, transfer
from polytask.training.assembly import Assembly, Work
from polytask.training.pretrain import pretrain
from polytask.training.progress import Progress
from polytask.training.run import Stopped, train_run
from polytask.training.world import World


def test_a_run_goes_on_with_another_number_of_processes(config, run_in):
    """Resumed by one process, a run of two ends as one process would have, but for rounding."""
    made = config(["hard"], epochs=2, optimizer={"name": "sgd", "lr": 0.01})
    with pytest.raises(Stopped):
        run_in(made, "hard", "changed", devices=2, stop_after=7)
    changed, folder = run_in(made, "hard", "changed", resume=True)
    straight, other = run_in(made, "hard", "straight")
    assert changed["samples"] == straight["samples"]
    assert changed["hash"] == straight["hash"]
    torch.testing.assert_close(
        load_file(folder / "model.safetensors"),
        load_file(other / "model.safetensors"),
        rtol=1e-2,
        atol=1e-3,
    )


@pytest.mark.slow
def test_pretraining_and_transfer_on_two_devices_are_those_of_one(config, tmp_path):
    turns = {"tasks": {"turn": {"kind": "rotation", "data": "handwritten"}}}
    made = config(["hard"], turns, epochs=1, optimizer={"name": "sgd", "lr": 0.01})
    start = tmp_path / "pretrained1"
    pretrain(made, out=start)
    pretrain(made, out=tmp_path / "pretrained2", devices=2)
    one, two = (load_file(tmp_path / f"pretrained{n}" / "model.safetensors") for n in (1, 2))
    torch.testing.assert_close(two, one, rtol=1e-2, atol=1e-3)

    made = config(["hard"], epochs=1, optimizer={"name": "sgd", "lr": 0.01})
    for devices in (1, 2):
        transfer(start, made, "fsp", out=tmp_path / f"moved{devices}", devices=devices)
    rows = [(tmp_path / f"moved{n}" / "metrics.jsonl").read_text().splitlines() for n in (1, 2)]
    (one, two) = (json.loads(lines[0]) for lines in rows)
    assert one["phase"] == two["phase"] == "fsp"
    # The mean over its steps: what a product of maps makes of rounding later is another matter.
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_a_lost_process_is_told_and_the_run_goes_on(config, run_in, monkeypatch):
    made = config(["hard"], epochs=2)
    helpers = []
    start = processes.child.start

    def noted(*arguments):
        helpers.append(start(*arguments))
        return helpers[-1]

    monkeypatch.setattr(processes.child, "start", noted)

    class Killing(Progress):
        def step(self, step, losses):
            if step == 3:
                os.kill(helpers[0].pid, signal.SIGKILL)

    with pytest.raises(Failed, match=r"device 1 is lost: .*SIGKILL.*--resume"):
        run_in(made, "hard", devices=2, progress=Killing(lambda event: None))
    assert threading.active_count() < 20
    result, _ = run_in(made, "hard", resume=True)
    assert result["samples"] == run_in(made, "hard", "other")[0]["samples"]


def test_torchrun_trains_one_run(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(config(["hard"], epochs=1).dump())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(processes._free_port()), "-m", "polytask", "train", str(path)]
    command += ["--method", "hard", "--out", str(tmp_path / "run")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("report:") == 1
    assert (tmp_path / "run" / "result.json").exists()


def test_two_numbers_of_processes_are_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(UserError, match="--devices: got 2 under a torchrun of 4"),
        processes.together(2, "32", None),
    ):
        pass


def test_what_processes_cannot_add_up_is_refused_before_anything_is_written(config, tmp_path):
    made = config(["hard"], {"balancing": {"graddrop": {"on": "representation"}}})
    preflight.check(made)
    said = r"balancing\.graddrop\.on: representation runs in one process"
    with pytest.raises(UserError, match=said):
        preflight.check(made, devices=2)
    world = World.of()
    world.size = 2  # whatever else a run needs them for, it comes later
    with pytest.raises(UserError, match=said):
        Assembly(Work(made, made.method("hard"), 0, tmp_path / "run"), world)
    made = config(["hard"], {"balancing": {"early_stopping": {"keep": ["read_prints"]}}})
    with pytest.raises(UserError, match=r'unknown task "read_prints"'):
        train_run(made, made.method("hard"), 0, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_more_devices_than_gpus_are_refused(monkeypatch, config, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    made = config(["hard"])
    with pytest.raises(UserError, match="--devices: got 2; expected at most the 1 GPUs"):
        train_run(made, made.method("hard"), 0, tmp_path / "run", devices=2)
    assert not (tmp_path / "run").exists()

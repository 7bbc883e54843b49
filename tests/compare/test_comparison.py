"""A comparison's folder and processes: failures stay alone, nothing is lost, nothing done twice.

The trainer is a small one of the real form (`tiny_trainer`), given by name as workers take it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polytask.compare.comparison import Comparison
from polytask.config import read_config
from polytask.errors import RunError, UserError
from polytask.training.output import KEPT, LOCK
from polytask.training.progress import Message, Step


def config(*keys, seeds=3, **more):
    tasks = {name: {"kind": "classification", "classes": 2} for name in ("read", "depth")}
    methods = ["single", *({"hard": {"as": key}} for key in keys)]
    return read_config({"tasks": tasks, "methods": methods, "seeds": seeds, **more}, options=False)


def compare(chosen, folder, show=lambda event: None, check="check", on="local", **keywords):
    comparison = Comparison(
        chosen,
        folder,
        show,
        train="tiny_trainer:train",
        check=f"tiny_trainer:{check}",
        devices=keywords.pop("devices", 1),
        on=on,
    )
    return comparison.run(2, **keywords)


def content(folder):
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_killed_a_broken_and_a_diverged_run_leave_the_others_whole(tmp_path):
    chosen = config("dies", "loses", "dies_twice", "breaks", "explodes")
    folder = tmp_path / "out"
    seen = []
    results = compare(chosen, folder, seen.append)
    failures = {o.label: o for o in results.failures}
    assert sorted(failures) == [
        "breaks/seed2",
        "dies_twice/seed1",
        *(f"explodes/seed{seed}" for seed in range(3)),
    ]

    # A run whose process was lost is tried again, once, and says so.
    said = [event.text for event in seen if isinstance(event, Message)]
    retried = [line.split(":")[0] for line in said if "tried again" in line]
    assert sorted(retried) == ["dies/seed1", "dies_twice/seed1", *(f"loses/seed{i}" for i in "012")]
    assert attempts(folder / "dies" / "seed1") == 1
    assert attempts(folder / "dies_twice" / "seed1") == 2
    assert "SIGKILL" in failures["dies_twice/seed1"].reason
    assert failures["dies_twice/seed1"].reason.endswith("the second time")

    # An error would come again: it is told and not tried again.
    assert attempts(folder / "breaks" / "seed2") == 1
    assert failures["breaks/seed2"].reason == "ValueError: no good"
    assert "Traceback" in (folder / "breaks" / "seed2" / "error.txt").read_text()
    methods = results.data["methods"]
    for key in ("dies", "loses"):
        assert methods[key]["tasks"]["read"]["accuracy"]["per_seed"] == [0.52, 0.53, 0.54]
    assert methods["breaks"]["tasks"]["read"]["accuracy"]["per_seed"] == [0.52, 0.53, None]
    assert methods["single"]["tasks"]["read"]["accuracy"]["per_seed"] == [0.5, 0.51, 0.52]
    assert methods["explodes"]["health"] == {"depth": "diverged"}

    # Going on tries again what failed by accident, and nothing else.
    before = content(folder / "single") | content(folder / "explodes")
    results = compare(chosen, folder, resume=True)
    assert {o.words for o in results.failures} == {"diverged (task depth)", "failed"}
    assert attempts(folder / "dies_twice" / "seed1") == 4
    assert attempts(folder / "explodes" / "seed0") == 1
    assert content(folder / "single") | content(folder / "explodes") == before
    assert not (folder / "breaks" / "seed2" / "error.txt").exists()
    accuracy = results.data["methods"]["breaks"]["tasks"]["read"]["accuracy"]
    assert accuracy["per_seed"] == [0.52, 0.53, 0.54]


def attempts(folder):
    return len((folder / "attempts").read_text())


def test_a_finished_comparison_is_left_alone(tmp_path):
    folder = tmp_path / "out"
    results = compare(config(seeds=1), folder)
    before = content(folder)
    assert compare(config(seeds=1), folder, resume=True).data == results.data
    assert content(folder) == before  # not even a time is touched


def test_ctrl_c_keeps_the_state_and_resume_goes_on_from_it(tmp_path):
    chosen = config("slow", seeds=1)
    folder = tmp_path / "out"

    def interrupt(event):
        if isinstance(event, Step) and event.step > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="--resume") as stopped:
        compare(chosen, folder, interrupt)
    assert f"polytask compare {folder / 'config.yaml'} --out {folder}" in str(stopped.value)
    assert int((folder / "slow" / "seed0" / "state").read_text()) > 3
    assert (folder / "single" / "seed0" / "result.json").exists()
    assert not (folder / "results.json").exists()

    with pytest.raises(RunError, match=r"--resume.*--overwrite"):
        compare(chosen, folder)
    with pytest.raises(RunError, match=r"train\.epochs: 30 -> 5"):
        compare(config("slow", seeds=1, train={"epochs": 5}), folder, resume=True)
    seen = []
    results = compare(chosen, folder, seen.append, resume=True)
    assert not results.failures
    assert min(event.step for event in seen if isinstance(event, Step)) > 3


PARENT = """
import sys
from pathlib import Path
sys.path[:] = {path!r}
from test_comparison import compare, config
compare(config("mute", seeds=1), Path(sys.argv[1]))
"""


def test_workers_end_with_their_parent(tmp_path):
    folder = tmp_path / "out"
    pid = folder / "mute" / "seed0" / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(path=sys.path), str(folder)],
        stderr=subprocess.PIPE,
    )
    with parent:
        assert waits_for(pid.exists)
        worker = int(pid.read_text())
        os.kill(worker, 0)  # alive
        parent.kill()
    assert waits_for(lambda: not is_alive(worker))
    assert not (folder / "mute" / "seed0" / "result.json").exists()


def waits_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    # An orphan stays in the table until whoever adopted it looks.
    return not (status.exists() and "(zombie)" in status.read_text())


def test_wrong_input_found_first_writes_and_deletes_nothing(tmp_path):
    new = tmp_path / "runs" / "new"
    with pytest.raises(UserError, match=r"shop\.yaml:3 data\.shelf: no such file"):
        compare(config(), new, check="refuse")
    assert not new.parent.exists()

    old = tmp_path / "old"
    compare(config(seeds=1), old)
    before = content(old)
    with pytest.raises(UserError, match="no such file"):
        compare(config(seeds=1), old, check="refuse", overwrite=True)
    assert content(old) == before

    # Found late, it ends the comparison; what is finished stays.
    with pytest.raises(UserError, match="exit layer9 does not exist"):
        compare(config("wrong", seeds=1), old, overwrite=True)
    assert not (old / "results.json").exists()
    kept = [*old.glob("single/seed0/result.json"), *old.glob(f"{KEPT}/*/result.json")]
    assert kept


def test_a_folder_in_use_is_refused_and_that_of_the_dead_is_not(tmp_path):
    folder = tmp_path / "out"
    compare(config(seeds=1), folder)
    (folder / "results.json").unlink()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import filelock, sys; held = filelock.FileLock(sys.argv[1]).acquire(); "
            "print(flush=True); sys.stdin.read()",
            str(folder / LOCK),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        with pytest.raises(RunError, match="in use by another"):
            compare(config(seeds=1), folder, resume=True)
        holder.kill()
    assert compare(config(seeds=1), folder, resume=True).data["seeds"] == [0]


def test_a_comparison_that_came_first_is_left_alone(tmp_path):
    chosen = config(seeds=1, folder=str(tmp_path))
    with pytest.raises(RunError, match="is not empty"):
        compare(chosen, tmp_path / "out", check="occupy")
    assert (tmp_path / "out" / "results.json").read_text() == "theirs"


def test_overwrite_starts_again_but_keeps_finished_single_task_runs_for_reuse(tmp_path):
    folder = tmp_path / "out"
    compare(config("hard", seeds=1), folder)
    seen = []

    def look(event):
        seen.append({path.parent.name for path in folder.glob(f"{KEPT}/*/result.json")})

    results = compare(config("other", seeds=1), folder, look, overwrite=True)
    assert {"single-seed0"} in seen
    assert list(results.data["methods"]) == ["single", "other"]
    assert not (folder / "hard").exists()
    assert not (folder / KEPT).exists()


def test_the_same_comparison_gives_the_same_numbers(tmp_path):
    first, second = (compare(config("hard"), tmp_path / name).data for name in "ab")
    for data in (first, second):
        for method in data["methods"].values():
            del method["train_seconds"]
        del data["config"]
    assert first == second


def test_a_run_folder_is_not_resumed_as_a_comparison(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "config.yaml").write_text(config().dump())
    with pytest.raises(RunError, match="the folder of one run"):
        compare(config(), tmp_path, resume=True)

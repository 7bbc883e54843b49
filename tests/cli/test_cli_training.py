"""polytask compare, train, report, check and cost on a small comparison."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from polytask.report import report as polytask_report

RUN_FILES = {
    "config.yaml",
    "metrics.jsonl",
    "model.safetensors",
    "cost.json",
    "tasks.json",
    "samples",
    "plots",
    "report.html",
    "log.txt",
}


def test_train_writes_a_run_folder_and_prints_scores_and_the_report(polytask, scenes, tmp_path):
    out = tmp_path / "run"
    said = polytask("train", scenes, "train.epochs=2", "--method", "hard", "--out", out)
    assert said.code == 0
    assert {path.name for path in out.iterdir()} >= RUN_FILES
    scores, page = said.out.splitlines()
    assert "shape" in scores
    assert "looks" in scores
    assert page == f"report: {out / 'report.html'}"
    assert "hard/seed0" in said.err
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(row["epoch"] for row in rows) == 2


def test_train_resumes_only_the_same_run(polytask, scenes, run_folder):
    weights = (run_folder / "model.safetensors").read_bytes()
    train = ["train", scenes, "--out", run_folder, "--method"]
    refused = polytask(*train, "multi_exit")
    assert refused.code == 2
    assert "--resume" in refused.err
    assert "--overwrite" in refused.err
    other = polytask(*train, "hard", "--resume")
    assert other.code == 2
    assert "multi_exit" in other.err
    changed = polytask(*train, "multi_exit", "train.epochs=2", "--resume")
    assert changed.code == 2
    assert "train.epochs: 1 -> 2" in changed.err
    assert polytask(*train, "multi_exit", "--resume").code == 0
    assert (run_folder / "model.safetensors").read_bytes() == weights


def test_a_finished_run_with_damaged_files_is_told_or_made_whole(
    polytask, scenes, run_folder, tmp_path
):
    out = shutil.copytree(run_folder, tmp_path / "run")
    resume = ["train", scenes, "--method", "multi_exit", "--out", out, "--resume"]
    weights = (out / "model.safetensors").read_bytes()
    (out / "result.json").write_bytes(b"\xfb{")
    said = polytask(*resume)
    assert (said.code, said.out) == (2, "")
    assert said.complaints == [f"{out / 'result.json'}: is damaged. Train again with --overwrite."]
    (out / "result.json").write_bytes((run_folder / "result.json").read_bytes())
    (out / "model.safetensors").unlink()
    assert polytask(*resume).code == 0
    assert (out / "model.safetensors").read_bytes() == weights


def test_overwrite_starts_again_once_the_input_is_right(polytask, scenes, tmp_path):
    out = tmp_path / "run"
    train = ["train", scenes, "--out", out, "--method"]
    assert polytask(*train, "hard").code == 0
    before = {path: path.read_bytes() for path in out.glob("*.json*")}
    wrong = polytask(*train, "multi_exit", "methods.2.multi_exit.exits.shape=layer9", "--overwrite")
    assert wrong.code == 2
    assert "layer9" in wrong.err
    assert {path: path.read_bytes() for path in out.glob("*.json*")} == before
    assert polytask(*train, "single", "--overwrite").code == 0
    assert json.loads((out / "tasks.json").read_text())["method"] == "single"


def test_an_interrupted_run_exits_130_tells_the_way_on_and_resumes(polytask, scenes, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", str(scenes), "train.epochs=20", "--method", "hard", "--out", str(out)]
    started = subprocess.Popen(
        [sys.executable, "-m", "polytask", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    rows = out / "metrics.jsonl"
    while started.poll() is None and not (rows.exists() and rows.stat().st_size):
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    printed, told = started.communicate()
    assert (started.returncode, printed) == (130, "")
    assert "--resume" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert not (out / "model.safetensors").exists()
    assert polytask(*arguments, "--resume").code == 0
    assert (out / "model.safetensors").exists()


def test_a_killed_run_resumes_to_the_same_bytes_and_leaves_no_litter(polytask, scenes, tmp_path):
    train = ["train", str(scenes), "train.epochs=12", "--method", "multi_exit", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert polytask(*train, whole).code == 0
    # It saves after every step, and is killed in the middle of an epoch.
    program = (
        "import os, signal, sys\n"
        "from polytask.cli import main\n"
        "from polytask.training import checkpoint, saving\n"
        "saving.SECONDS = (0.0, 0.0)\n"
        "write, saves = checkpoint.save_state, []\n"
        "def save_state(folder, state):\n"
        "    write(folder, state)\n"
        "    saves.append(folder)\n"
        "    if len(saves) == 11:\n"
        "        (folder / 'state' / '.checkpoint.pt.1').write_bytes(b'half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save_state = save_state\n"
        "main(sys.argv[1:])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *train, str(killed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert not (killed / "model.safetensors").exists()
    said = polytask(*train, killed, "--resume")
    assert said.code == 0
    assert "going on after step 10 of" in said.err
    weights = [(run / "model.safetensors").read_bytes() for run in (whole, killed)]
    assert weights[0] == weights[1]
    assert list((killed / "state").iterdir()) == []
    rows = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, killed)]
    without = [[{**json.loads(row), "seconds": 0} for row in lines] for lines in rows]
    assert without[0] == without[1]


def test_a_diverging_run_exits_1_and_names_the_task(polytask, scenes, tmp_path):
    out = tmp_path / "run"
    hot = ["train.optimizer.lr=100", "train.epochs=30", "train.schedule=constant"]
    said = polytask("train", scenes, *hot, "--method", "hard", "--out", out)
    assert (said.code, said.out) == (1, "")
    assert "the loss of task" in said.complaints[-1]
    assert not (out / "model.safetensors").exists()


def test_a_dry_run_tells_each_method_and_task_and_writes_nothing(
    polytask, scenes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = polytask("compare", scenes, "--dry-run")
    assert said.code == 0
    lines = said.out.splitlines()
    for method in ("single", "hard", "multi_exit"):
        for task in ("shape", "looks"):
            assert any(line.startswith(f"{method}: {task} loss ") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_compare_ends_with_a_table_the_report_and_a_command_that_exports(
    polytask, scenes, tmp_path
):
    out = tmp_path / "a comparison"
    start = ["compare", scenes, "--out", out, "methods=[multi_exit]", "--seeds", 2, "--jobs", 1]
    said = polytask(*start)
    assert said.code == 0
    head, single, multi_exit, verdict, *_, page, export = said.out.splitlines()
    assert [row.split()[0] for row in (head, single, multi_exit)] == [
        "method",
        "single",
        "multi_exit",
    ]
    assert "2 seeds" in verdict
    assert page == f"report: {out / 'report.html'}"
    assert export.startswith(f"export: polytask export '{out}' --method ")
    assert "runs" in said.err
    results = json.loads((out / "results.json").read_text())
    for run in ("single/seed0", "single/seed1", "multi_exit/seed0", "multi_exit/seed1"):
        assert {path.name for path in (out / run).iterdir()} >= RUN_FILES
    again = polytask(*start, "--resume", "--json")
    assert again.code == 0
    assert again.json == results
    assert list(results["methods"]) == ["single", "multi_exit"]
    changed = polytask(*start, "--resume", "train.batch=8")
    assert changed.code == 2
    assert "train.batch: 16 -> 8" in changed.err


def test_a_comparison_goes_on_after_a_failed_run_and_exits_1(polytask, scenes, tmp_path):
    out = tmp_path / "cmp"
    hot = ["train.optimizer.lr=100", "train.epochs=30", "train.schedule=constant"]
    said = polytask("compare", scenes, *hot, "methods=[hard]", "--out", out, "--json", "--jobs", 1)
    assert said.code == 1
    assert said.json["methods"]["hard"]["failed"][0]["failure"] == "diverged"
    assert "failed: single/seed0, hard/seed0" in said.complaints[-1]


def test_report_rebuilds_the_page_from_the_files(polytask, run_folder):
    page = run_folder / "report.html"
    before = page.read_text()
    page.unlink()
    said = polytask("report", run_folder)
    assert (said.code, said.out) == (0, f"{page}\n")
    assert page.read_text() == before
    assert polytask_report(str(run_folder)) == page


def test_check_reports_and_shows_a_batch(polytask, scenes, tmp_path):
    said = polytask("check", scenes, "--show", tmp_path / "sheets")
    assert (said.code, said.err) == (0, "")
    assert "scenes (shapes): 60 images" in said.out
    assert "0 faults" in said.out
    assert [path.suffix for path in (tmp_path / "sheets").iterdir()] == [".png"]


def test_check_exits_2_where_there_are_faults(polytask, tmp_path):
    for kind in ("cat", "dog"):
        folder = tmp_path / "pets" / kind
        folder.mkdir(parents=True)
        for i in range(9):
            (folder / f"{i}.png").write_bytes(b"no image")
    config = tmp_path / "pets.yaml"
    config.write_text(
        "data: {pets: {source: folder, path: pets, size: 16}}\n"
        "tasks: {kind: {kind: classification, data: pets}}\n"
    )
    said = polytask("check", config, "--json")
    assert said.code == 2
    assert len(said.json["faults"]) == len(said.complaints) == 18
    assert all("image format" in line for line in said.complaints)


def test_cost_prints_every_method_and_task(polytask, scenes):
    found = polytask("cost", scenes, "--json").json["methods"]
    assert list(found) == ["single", "hard", "multi_exit"]
    for cost in found.values():
        assert set(cost["tasks"]) == {"shape", "looks"}
    tasks = found["single"]["tasks"].values()
    for figure in ("params", "macs"):
        assert found["single"]["total"][figure] == sum(task[figure] for task in tasks)
        shallow = found["multi_exit"]["tasks"]["shape"][figure]
        assert shallow < found["hard"]["tasks"]["shape"][figure]
    timed = polytask("cost", scenes, "--latency", "--json").json["methods"]
    for name, cost in timed.items():
        for task, path in cost["tasks"].items():
            assert path.pop("latency_ms") > 0
            assert path == found[name]["tasks"][task]
    text = polytask("cost", scenes).out
    assert f"{found['hard']['total']['params']:,}" in text


@pytest.mark.parametrize("convention", ["plain", "thop_legacy"])
def test_a_task_without_data_is_enough_for_cost(polytask, tmp_path, convention):
    config = tmp_path / "bare.yaml"
    config.write_text("image_size: 32\ntasks: {animal: {kind: classification, classes: 10}}\n")
    said = polytask("cost", config, "--convention", convention, "--json")
    assert said.json["methods"]["single"]["tasks"]["animal"]["params"] == 11_181_642


def test_profile_tells_every_part_of_a_step(polytask, scenes):
    found = polytask("profile", scenes, "--method", "hard", "--steps", "1", "--json").json
    (part,) = found["methods"].values()
    assert part["step_seconds"] > part["parts"]["trunk"]["seconds"] > 0
    assert part["peak_bytes"] > 0

"""The folder of a run or comparison: what is refused, what is deleted, and what never is."""

from pathlib import Path

import pytest

from polytask.config import read_config
from polytask.errors import RunError
from polytask.training.fingerprint import KEPT
from polytask.training.output import (
    CONFIG,
    LOCK,
    check_output,
    check_same_config,
    clear,
    is_unused,
    keep,
    locked,
)


def make(folder, *files):
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def comparison(folder):
    runs = [f"{method}/seed{s}/result.json" for method in ("single", "hard") for s in (0, 10)]
    make(folder, CONFIG, LOCK, "results.json", "results.csv", "report.html", *runs)
    make(folder, "hard/.seed0.lock")


def run(folder):
    make(folder, CONFIG, "metrics.jsonl", "model.safetensors", "state/checkpoint.pt", "log.txt")


def check(folder, resume=False, overwrite=False):
    check_output(folder, resume=resume, overwrite=overwrite)


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
def test_an_absent_or_empty_folder_is_free(tmp_path, flags):
    check(tmp_path / "absent", **flags)
    check(tmp_path, **flags)
    make(tmp_path, LOCK)  # all that a comparison leaves that was stopped at once
    assert is_unused(tmp_path)
    check(tmp_path, **flags)


@pytest.mark.parametrize("fill", [comparison, run])
def test_a_used_folder_is_refused_naming_both_ways_out(tmp_path, fill):
    fill(tmp_path)
    with pytest.raises(RunError, match=r"is not empty\. --resume .* --overwrite"):
        check(tmp_path)
    check(tmp_path, resume=True)
    check(tmp_path, overwrite=True)


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(RunError, match=r"is a file; expected a folder.*another --out"):
        check(file, overwrite=True)
    with pytest.raises(RunError, match=rf"cannot be made, because {file} is a file"):
        check(file / "below" / "it")
    with pytest.raises(RunError, match="cannot be made: File name too long"):
        check(tmp_path / ("x" * 300))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux refuses folders in /proc")
@pytest.mark.parametrize("lock", ["none/.lock", ".none.lock"])
def test_a_folder_that_the_system_refuses_is_told(lock):
    with (
        pytest.raises(RunError, match=r"^/proc/none: cannot be made: .*another --out"),
        locked(Path("/proc/none"), Path("/proc") / lock),
    ):
        pass


def test_both_flags_contradict_each_other(tmp_path):
    with pytest.raises(RunError, match="both --resume and --overwrite"):
        check(tmp_path, resume=True, overwrite=True)


def test_a_file_is_no_folder(tmp_path):
    make(tmp_path, "out")
    with pytest.raises(RunError, match="is a file; expected a folder"):
        check(tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    "files",
    [
        ["thesis.tex"],
        [CONFIG],  # the user's own config, in a folder of its own
        [CONFIG, "samples/cat.png"],
        ["runs/demo/results.json"],  # the parent of a comparison
        ["photos/seed0/cat.png"],
    ],
)
@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_folder_of_someone_else_is_never_taken(tmp_path, files, flag):
    make(tmp_path, *files)
    with pytest.raises(RunError, match="holds no run or comparison of polytask"):
        check(tmp_path, **{flag: True})


@pytest.mark.parametrize("fill", [comparison, run])
@pytest.mark.parametrize("foreign", ["notes.txt", "photos/cat.png", "photos/seed0/cat", ".git/x"])
def test_what_is_not_polytasks_is_named_and_not_deleted(tmp_path, fill, foreign):
    fill(tmp_path)
    make(tmp_path, foreign)
    if foreign == "photos/seed0/cat":
        make(tmp_path, "photos/cat.png")
    with pytest.raises(RunError, match=f"holds {foreign.split('/')[0]}, which polytask did not"):
        check(tmp_path, overwrite=True)
    check(tmp_path, resume=True)


@pytest.mark.parametrize("made", ["export/shape.onnx", "explain/0-photo-shape.png"])
def test_what_was_made_of_a_run_is_polytasks_own(tmp_path, made):
    run(tmp_path)
    make(tmp_path, made)
    check(tmp_path, overwrite=True)


def test_clearing_deletes_all_but_the_lock_and_the_kept(tmp_path):
    comparison(tmp_path)
    keep(tmp_path / "single" / "seed10", "single-seed10")
    clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [KEPT, LOCK]
    assert (tmp_path / KEPT / "single-seed10" / "result.json").exists()
    assert is_unused(tmp_path)


def test_clearing_does_not_follow_links(tmp_path):
    make(tmp_path, "elsewhere/precious.txt")
    folder = tmp_path / "out"
    comparison(folder)
    (folder / "samples").symlink_to(tmp_path / "elsewhere")
    clear(folder)
    assert not (folder / "samples").exists()
    assert (tmp_path / "elsewhere" / "precious.txt").exists()


def test_an_interrupted_clearing_can_be_gone_on_with(tmp_path, monkeypatch):
    comparison(tmp_path)

    def fail(path, ignore_errors=False):
        if path.exists():
            raise OSError("power is out")

    with monkeypatch.context() as broken:
        broken.setattr("polytask.training.output.shutil.rmtree", fail)
        with pytest.raises(OSError, match="power"):
            clear(tmp_path)
    assert is_unused(tmp_path)
    clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [LOCK]


def test_another_config_is_refused_with_a_line_for_each_change(tmp_path):
    def config(**train):
        tasks = {"read": {"kind": "classification", "classes": 2}}
        return read_config({"tasks": tasks, "train": train}, options=False)

    (tmp_path / CONFIG).write_text(config().dump())
    check_same_config(tmp_path, config())
    with pytest.raises(RunError) as refused:
        check_same_config(tmp_path, config(epochs=7, batch=9))
    first, *changes = map(str, refused.value.faults)
    assert "--overwrite" in first
    assert [change.split(": ", 1)[1] for change in changes] == [
        "train.epochs: 30 -> 7",
        "train.batch: 64 -> 9",
    ]

"""The section `pretraining`: what a method learns from is trained first, with the same seed."""

import contextlib
import json
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from polytask import training
from polytask.compare import compare
from polytask.config import read_config
from polytask.errors import UserError
from polytask.training.dry_run import dry_run
from polytask.training.preflight import check
from polytask.training.progress import Message, Overall, Silent
from polytask.training.run import Stopped, train_run

BACKBONE = {"name": "resnet10", "stem": "small", "width": 0.0625}
TURNED = {"turned": {"kind": "rotation", "data": "all"}}


def document(by="fine_tune", **more):
    return {
        "data": {
            "all": {"source": "digits", "fraction": 0.05, "size": 8},
            "few": {"source": "digits", "fraction": 0.03, "size": 8},
        },
        "tasks": {"digit": {"kind": "classification", "data": "few"}},
        "backbone": BACKBONE,
        "pretraining": {"alone": {"tasks": TURNED, "train": {"epochs": 1}}},
        "methods": [{"hard": {"transfer": {"pretraining": "alone", "by": by}, "as": "tuned"}}],
        "train": {"epochs": 2, "batch": 32, "optimizer": {"name": "sgd", "lr": 0.05}},
        "seeds": [3],
        **more,
    }


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_one_command_does_as_two(tmp_path):
    config = read_config(document())
    training.train(config, "tuned", out=tmp_path / "one")

    first = read_config(
        document(tasks=TURNED, train={**document()["train"], "epochs": 1}, methods=["hard"])
    )
    training.train(first, "hard", out=tmp_path / "first")
    second = read_config(document(methods=[{"hard": {}}]))
    training.transfer(tmp_path / "first", second, "fine_tune", out=tmp_path / "second")

    assert weights(tmp_path / "one/pretraining/alone/seed3") == weights(tmp_path / "first")
    assert weights(tmp_path / "one") == weights(tmp_path / "second")
    seen, own = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("first", "one")
    )
    two = json.loads((tmp_path / "second/result.json").read_text())
    assert own["extra_samples"] == two["extra_samples"] + seen["samples"]["turned"]


@pytest.mark.parametrize("by", ["fine_tune", "soft_targets", "fsp"])
def test_a_dry_run_tries_what_comes_first_too(by):
    config = read_config(document(by))
    lines = dry_run(config, [config.method("tuned")], 3)
    told = ["pretraining.alone: turned", "tuned: digit"]
    assert [line.partition(" loss ")[0] for line in lines] == told


class Stopping(Silent):
    """Asks a run to stop after some steps, those of all its runs counted."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def step(self, done, losses):
        self.left -= 1
        if self.left == 0:
            self.stop()


def test_stopped_before_and_after_it_learns_it_ends_in_the_same_bits(tmp_path):
    config = read_config(document("soft_targets"))
    entry = config.method("tuned")
    train_run(config, entry, 3, tmp_path / "straight")
    for steps in (1, 3, 2):  # in the pretraining, in the header's phase, in the last one
        with pytest.raises(Stopped):
            training.train(
                config,
                "tuned",
                out=tmp_path / "stopped",
                resume=(tmp_path / "stopped").exists(),
                progress=Stopping(steps),
            )
    training.train(config, "tuned", out=tmp_path / "stopped", resume=True)
    assert weights(tmp_path / "straight") == weights(tmp_path / "stopped")


class Rival(Silent):
    """Another process that would have a run's lock; it tries at the first step."""

    def __init__(self, lock):
        super().__init__()
        self.lock, self.got_it = lock, None

    def step(self, done, losses):
        if self.got_it is None:
            with contextlib.suppress(Timeout):
                self.lock.acquire(timeout=0)
            self.got_it = self.lock.is_locked
            self.stop()


def test_a_run_that_another_process_trains_is_not_overwritten(tmp_path):
    config, folder = read_config(document()), tmp_path / "run"
    rival = Rival(FileLock(tmp_path / ".run.lock"))
    with pytest.raises(Stopped):
        training.train(config, "tuned", out=folder, progress=rival)
    assert rival.got_it is False  # in the pretraining as well
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with rival.lock, pytest.raises(UserError, match="in use"):
        training.train(config, "tuned", out=folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_comparison_trains_a_pretraining_once(tmp_path):
    entries = [
        {"hard": {"transfer": {"pretraining": "alone"}, "as": "tuned"}},
        {"hard": {"transfer": {"pretraining": "alone", "by": "fsp"}, "as": "matched"}},
    ]
    config = read_config(document(methods=["single", *entries]))
    lock = FileLock(tmp_path / "pretraining/alone/.seed3.lock")
    said = []

    def be_faster(event):
        """As a run that learns from it is, which trains it where it is not finished."""
        if isinstance(event, Overall) and event.done == 0:
            Path(lock.lock_file).parent.mkdir(parents=True)
            lock.acquire()
        elif isinstance(event, Message) and "which another process trains" in event.text:
            said.append(event.text)
            lock.release()

    found = compare(config, tmp_path, jobs=1, progress=be_faster)
    assert len(said) == 1
    assert not found.failures
    assert set(found.data["methods"]) == {"single", "tuned", "matched"}
    (result,) = tmp_path.rglob("pretraining/**/result.json")
    assert result == tmp_path / "pretraining/alone/seed3/result.json"
    before = (tmp_path / "results.json").read_bytes()
    compare(config, tmp_path, resume=True)
    assert (tmp_path / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"tasks": TURNED, "backbone": {**BACKBONE, "width": 0.125}}, "of this backbone's shape"),
        ({"tasks": {"turned": {"kind": "wnet", "data": "none"}}}, 'got "none"'),
        (
            {
                "tasks": {**TURNED, "more": {"kind": "reconstruction", "data": "all"}},
                "method": "snr",
            },
            "makes 2 backbones; expected one",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_told_before_anything_is_written(tmp_path, part, told):
    with pytest.raises(UserError, match=told):
        check(read_config(document(pretraining={"alone": part})))
    with pytest.raises(UserError, match=told):
        training.train(document(pretraining={"alone": part}), "tuned", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()

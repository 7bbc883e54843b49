"""What docs/faults.md promises of each fault: the message, and that nothing finished is lost."""

import errno
import os
import random
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import nn

from polytask.errors import Diverged, Failed, UserError
from polytask.training import checkpoint, saving
from polytask.training.failures import told
from polytask.training.progress import Message, Progress
from polytask.training.run import Stopped

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


class Killed(BaseException):
    """What no `except Exception` stops, as a signal that cannot be caught."""


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


class Deadly(Progress):
    """Dies at a step, before the state of that step is saved or in the midst of saving it."""

    def __init__(self, monkeypatch, first, is_in_save):
        super().__init__(lambda event: None)
        self.left, self.is_in_save = first, is_in_save
        self.patch = monkeypatch

    def step(self, step, losses):
        self.left -= 1
        if self.left:
            return
        if not self.is_in_save:
            raise Killed
        self.patch.setattr(os, "fsync", self.die)  # all is written, but not yet in its place

    def die(self, number):
        raise Killed


def test_a_run_killed_at_fifty_points_ends_in_the_same_bits(config, run_in, monkeypatch):
    """Saved after every step; killed before the save or within it, at random."""
    monkeypatch.setattr(saving, "SECONDS", (0.0, 0.0))
    made = config([{"hard": {"filter": True}}], epochs=13, evaluate_every=6, clip=1.0)
    straight, folder = run_in(made, "hard", "straight")
    draw = random.Random(0)
    fsync, kills = os.fsync, 0
    while kills < 50:
        deadly = Deadly(monkeypatch, draw.choice((2, 2, 3)), draw.random() < 0.5)
        with pytest.raises(Killed):
            run_in(made, "hard", "killed", resume=True, progress=deadly)
        monkeypatch.setattr(os, "fsync", fsync)
        kills += 1
    resumed, other = run_in(made, "hard", "killed", resume=True)
    assert weights(other) == weights(folder)
    assert resumed["tasks"] == straight["tasks"]
    assert resumed["samples"] == straight["samples"]
    assert not list(other.rglob(".*"))


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot be written"), (errno.EDQUOT, "no sp")],
)
def test_a_disk_that_is_full_or_closed(config, run_in, monkeypatch, number, said):
    """The state saved before stays whole, and half a file is not left behind."""
    made = config(["hard"])
    with pytest.raises(Stopped):
        run_in(made, "hard", stop_after=3)

    def fail(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Failed, match=rf"{said}.*--resume"):
            run_in(made, "hard", resume=True)
    _, folder = run_in(made, "hard", resume=True)
    _, straight = run_in(made, "hard", "straight")
    assert weights(folder) == weights(straight)
    assert not list(folder.rglob(".*"))


def test_a_lack_of_memory_says_what_to_do(tmp_path):
    with (
        pytest.raises(Failed, match=r"out of memory; lower train\.batch.*--resume"),
        told(tmp_path),
    ):
        torch.empty(1 << 52)
    with pytest.raises(Failed, match="out of memory"), told(tmp_path):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), told(tmp_path):  # a fault of ours is no fault
        raise RuntimeError("shape")


def test_weights_that_are_not_finite_are_never_saved(config, run_in):
    """A gradient may be infinite while the loss is not; what was saved before can still go on."""
    broken = nn.Linear(2, 2)
    with torch.no_grad():
        broken.weight[0, 0] = torch.inf
    with pytest.raises(Diverged, match=r"the gradient became inf at step 7; lower train\.optim"):
        saving.check_finite(broken, 7)

    class Breaking(Progress):
        def step(self, step, losses):
            self.is_stopping = step == 4

    made = config(["hard"], optimizer={"name": "sgd", "lr": 99.0, "momentum": 0.99})
    with pytest.raises((Diverged, Stopped)):
        run_in(made, "hard", progress=Breaking(lambda event: None))
    state = checkpoint.load_state(run_in.folder("hard"))
    assert all(v.isfinite().all() for v in state["method"].values() if isinstance(v, torch.Tensor))


def test_a_folder_in_use_is_refused_at_once_and_a_teacher_waited_for(config, run_in, tmp_path):
    made = config(["hard"], epochs=1)
    folder = tmp_path / "run" / "hard"
    folder.parent.mkdir()
    lock = FileLock(folder.parent / ".hard.lock")
    with lock, pytest.raises(UserError, match=r"in use by another polytask process.*--out"):
        run_in(made, "hard")
    assert not folder.exists()
    is_held, is_told = threading.Event(), threading.Event()

    def hold():
        with FileLock(folder.parent / ".hard.lock"):
            is_held.set()
            is_told.wait(600)

    def hear(event):
        if isinstance(event, Message) and "waiting for" in event.text:
            is_told.set()

    threading.Thread(target=hold).start()
    is_held.wait()
    run_in(made, "hard", comparison=tmp_path, progress=Progress(hear))
    assert is_told.is_set()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"polytask state 2 " + b"0" * 32, "has format 2, of another version"),
        (b"PK\x03\x04 what torch alone would write", "checksum does not match"),
    ],
)
def test_a_state_of_another_version(config, run_in, head, said):
    made = config(["hard"])
    with pytest.raises(Stopped):
        run_in(made, "hard", stop_after=2)
    path = run_in.folder("hard") / checkpoint.STATE
    path.write_bytes(head + b"\n" + path.read_bytes().partition(b"\n")[2])
    (path.parent / checkpoint.BEFORE.name).unlink()
    with pytest.raises(UserError, match=rf"{said}.*--overwrite"):
        run_in(made, "hard", resume=True)


def test_a_clock_that_jumps_changes_nothing(config, run_in, monkeypatch):
    made = config(["hard"], epochs=1)
    _, straight = run_in(made, "hard", "straight")
    now = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    jumped, folder = run_in(made, "hard", "jumped")
    assert weights(folder) == weights(straight)
    assert 0 < jumped["train_seconds"] < 100


def test_every_fault_is_on_the_page():
    text = PAGE.read_text("utf-8")
    for name in ("Ctrl-C", "SIGTERM", "SIGKILL", "full disk", "read-only", "out of memory", "NaN"):
        assert name in text, name

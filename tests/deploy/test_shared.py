"""One file of all tasks: every kernel once, the same predictions, and nothing damaged is read."""

import numpy as np
import pytest
import torch

from polytask.cli import main
from polytask.deploy import load
from polytask.deploy.export import tensors_of
from polytask.deploy.shared import export_shared, load_shared
from polytask.errors import RunError
from polytask.training import train

# Their paths are made from common weights by what each task has learned.
LEARNED = ["adapters", "packnet", "adashare"]
CONFIG = {
    "data": {
        "digits": {"source": "digits", "fraction": 0.05, "size": 16},
        "printed": {"source": "printed_digits", "count": 100, "size": 16},
    },
    "tasks": {
        "digit": {"kind": "classification", "data": "digits"},
        "print": {"kind": "classification", "data": "printed"},
    },
    "mixing": "multi_input",
    "backbone": {"name": "resnet18", "stem": "small", "width": 0.25},
    "methods": [{"kernel_sharing": {"threshold": 0.9, "pairing": "mutual_best"}}, "hard", *LEARNED],
    "train": {"epochs": 1, "batch": 16},
    "seeds": 1,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    for method in ("kernel_sharing", "hard", "single", *LEARNED):
        epochs = 3 if method == "adashare" else 1
        train(CONFIG, method, out=folder / method, overrides=[f"train.epochs={epochs}"])
    return folder


@pytest.mark.parametrize("method", ["kernel_sharing", "hard", "single"])
def test_every_kernel_is_stored_once_and_predictions_stay(runs, method, tmp_path):
    model = load(runs / method)
    made = export_shared(model, model.tasks, tmp_path)
    rows = {}
    count = 0
    for task in model.tasks:
        for value in model.path(task).state_dict().values():
            flat = value.contiguous().reshape(len(value) if value.ndim > 1 else 1, -1)
            for row in flat.numpy():
                count += 1
                rows.setdefault((str(value.dtype), row.tobytes()), len(rows))
    assert (made.kernels, made.stored) == (count, len(rows))
    assert_predictions_stay(model, made)
    if method == "hard":  # batch-norm statistics and heads are the tasks' own
        assert made.weights < 0.6 * made.separate


@pytest.mark.parametrize("method", LEARNED)
def test_a_trunk_is_stored_once_with_what_makes_it_a_tasks_own(runs, method, tmp_path):
    model = load(runs / method)
    made = export_shared(model, model.tasks, tmp_path)
    assert_predictions_stay(model, made)
    trunk = sum(p.numel() * 4 for p in model.network.backbone.parameters())
    if method == "adapters":
        factors = sum(p.numel() * 4 for p in model.network.adapters.parameters())
        assert trunk + factors < made.weights < 1.05 * (trunk + factors)
    assert made.weights < min(1.4 * trunk, made.separate)


def test_what_serves_other_tasks_is_left_out(runs, tmp_path):
    model = load(runs / "adapters")
    made = export_shared(model, ["print"], tmp_path)
    assert_predictions_stay(model, made)
    whole = export_shared(model, model.tasks, tmp_path).weights
    other = sum(p.numel() * 4 for p in model.network.adapters["digit"].parameters())
    assert made.weights <= min(whole - other, made.separate * 1.01)


def assert_predictions_stay(model, made):
    assert made.bytes == made.file.stat().st_size
    again = load(made.file)
    torch.manual_seed(0)
    images = torch.randn(3, 3, 16, 16)
    for task in again.tasks:
        with torch.inference_mode():
            pairs = zip(
                tensors_of(again.path(task)(images)),
                tensors_of(model.path(task)(images)),
                strict=True,
            )
            assert all(torch.equal(found, expected) for found, expected in pairs)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    assert again.predict(pixels) == model.predict(pixels, again.tasks)


def test_shared_kernels_take_the_room_of_one(runs, tmp_path):
    """Pairs of two mix to equal kernels, of which the second is saved."""
    model = load(runs / "kernel_sharing")
    network = model.network
    pairs = sum(
        int(bank.linked(i, j).sum()) for bank in network.banks.values() for i, j in bank.pairs
    )
    made = export_shared(model, model.tasks, tmp_path)
    assert pairs > 0
    assert made.kernels - made.stored >= pairs
    assert made.weights < made.separate


def test_the_command_and_a_part_of_the_tasks(runs, tmp_path, capsys):
    arguments = ["export", str(runs / "hard"), "--shared", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "rows stored" in capsys.readouterr().out
    assert main([*arguments, "--task", "print"]) == 0
    assert list(load_shared(tmp_path / "shared.safetensors").tasks) == ["print"]


def test_a_damaged_file_is_refused(runs, tmp_path):
    made = export_shared(load(runs / "hard"), ["digit"], tmp_path)
    content = made.file.read_bytes()
    for part in (b"", content[:100], content[:-4], b"\xff" * 64):
        made.file.write_bytes(part)
        with pytest.raises(RunError, match="damaged"):
            load_shared(made.file)


def test_a_shared_file_is_not_taken_apart_again(runs, tmp_path, capsys):
    made = export_shared(load(runs / "hard"), ["digit"], tmp_path)
    assert main(["export", str(made.file), "--shared"]) == 2
    assert "holds every kernel once already" in capsys.readouterr().err

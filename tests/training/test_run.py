"""Runs: repeatable, resumable to the bit at every step, reused when finished, fair to `single`."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from polytask.errors import Diverged, UserError
from polytask.training import checkpoint
from polytask.training.dry_run import dry_run
from polytask.training.run import Stopped

DATA_OF = {"read_handwriting": "handwritten", "read_print": "printed"}
WITHOUT_NORM = {"backbone": {"name": "alexnet_reduced", "width": 0.125}}
METHODS = [
    "single",
    {"hard": {"filter": True}},
    {"multi_exit": {"exits": {"read_handwriting": "layer3", "read_print": "layer4"}}},
    {"adapters": {"layers": "layer4", "rank": 2}},
]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def stopped_at(run_in, config, key, steps, name="stopped"):
    for stop in steps:
        with pytest.raises(Stopped):
            run_in(config, key, name, resume=True, stop_after=stop)
    return run_in(config, key, name, resume=True)


@pytest.mark.parametrize("key", ["single", "hard", "multi_exit", "adapters"])
def test_a_stopped_run_ends_in_the_same_bits(config, run_in, key):
    """At step 1, in the middle of an epoch, at its end, and one step before the very end."""
    made = config(METHODS, clip=1.0)
    straight, folder = run_in(made, key)
    steps = rows(folder)[0]["step"]
    cuts = (1, steps // 2, steps, steps + 1, 2 * steps - 1)
    resumed, other = stopped_at(run_in, made, key, cuts)
    assert weights(folder) == weights(other)
    assert rows(folder) == rows(other)
    assert straight["tasks"] == resumed["tasks"]
    assert straight["samples"] == resumed["samples"]


@pytest.mark.parametrize(
    "train",
    [
        {"optimizer": {"name": "adamw"}, "schedule": {"name": "plateau", "patience": 1}},
        {"select": "best", "epochs": 3, "early_stop": {"patience": 1}},
        {"precision": "bf16", "warmup": 1.0},
    ],
)
def test_optimizers_schedules_and_selection_resume(config, run_in, train):
    made = config(["hard"], **train)
    _, folder = run_in(made, "hard")
    _, other = stopped_at(run_in, made, "hard", (2, 5))
    assert weights(folder) == weights(other)
    assert rows(folder) == rows(other)


def test_dropout_resumes(config, run_in):
    made = config(["hard"], WITHOUT_NORM, epochs=1)
    _, folder = run_in(made, "hard")
    _, other = stopped_at(run_in, made, "hard", (2,))
    assert weights(folder) == weights(other)


def test_the_same_run_twice_gives_the_same_bits_and_other_seeds_do_not(config, run_in, tmp_path):
    from polytask.training.run import train_run

    made = config(["hard"], epochs=1)
    _, one = run_in(made, "hard", "one")
    _, two = run_in(made, "hard", "two")
    train_run(made, made.method("hard"), 1, tmp_path / "three")
    assert weights(one) == weights(two) != weights(tmp_path / "three")


def test_a_finished_run_is_left_alone(config, run_in):
    made = config(["hard"], epochs=1)
    _, folder = run_in(made, "hard")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    again, _ = run_in(made, "hard", resume=True)
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    assert before == after
    assert again == json.loads((folder / "result.json").read_text("utf-8"))


def test_a_changed_config_does_not_go_on(config, run_in):
    with pytest.raises(Stopped):
        run_in(config(["hard"]), "hard", stop_after=2)
    with pytest.raises(UserError, match="another config"):
        run_in(config(["hard"], epochs=3), "hard", resume=True)


def test_a_damaged_state_falls_back_to_the_one_before(config, run_in, tmp_path):
    """The run repeats some steps and ends in the same bits; without either it is one clear line."""
    made = config(["hard"])
    for stop in (2, 5):
        with pytest.raises(Stopped):
            run_in(made, "hard", resume=True, stop_after=stop)
    folder = tmp_path / "run" / "hard"
    for damaged in (checkpoint.STATE, checkpoint.BEFORE):
        content = bytearray((folder / damaged).read_bytes())
        content[len(content) // 2] ^= 1  # a single bit of it all
        (folder / damaged).write_bytes(content)
        if damaged is checkpoint.BEFORE:
            break
        told = []
        assert checkpoint.load_state(folder, told.append)["done_steps"] == 2
        assert "checksum does not match" in told[0]
        shutil.copytree(folder, tmp_path / "halved" / "hard")
    with pytest.raises(UserError, match=r"checkpoint\.pt: is damaged, .*--overwrite"):
        run_in(made, "hard", resume=True)
    _, resumed = run_in(made, "hard", "halved", resume=True)
    _, straight = run_in(made, "hard", "straight")
    assert weights(resumed) == weights(straight)


def test_single_sees_the_images_of_the_sharing_method(config, run_in):
    """`match: samples`: as many images of each task; `match: epochs`: passes over its own set."""
    made = config(["single", "hard"], epochs=1)
    single, _ = run_in(made, "single")
    hard, _ = run_in(made, "hard")
    assert single["samples"] == hard["samples"]
    own, _ = run_in(config(["single"], {"match": "epochs"}, epochs=1), "single", "epochs")
    labels = {task: own["labels"][data]["train"]["labels"][task] for task, data in DATA_OF.items()}
    assert own["samples"] == labels
    assert own["samples"]["read_handwriting"] < single["samples"]["read_handwriting"]


def test_columns_and_trunk_start_from_the_same_weights(config, run_in):
    """One step at learning rate 0 leaves the start: every column is the trunk of the seed."""
    made = config(["single", "hard"], epochs=1, optimizer={"name": "sgd", "lr": 1e-30})
    _, single = run_in(made, "single")
    _, hard = run_in(made, "hard")
    columns, trunk = load_file(single / "model.safetensors"), load_file(hard / "model.safetensors")
    learned = [name for name in trunk if name.startswith("backbone.") and name.endswith("weight")]
    assert learned
    for name in learned:
        for task in DATA_OF:
            column = columns[name.replace("backbone.", f"columns.{task}.")]
            torch.testing.assert_close(column, trunk[name])


def test_training_learns_more_than_the_majority_class(config, run_in):
    result, _ = run_in(config(["hard"], epochs=12), "hard")
    assert result["tasks"]["read_print"]["accuracy"] > result["chance"]["read_print"] + 0.2
    assert result["health"]["read_print"] == "learning"


def test_an_infinite_loss_stops_with_task_and_step(config, run_in):
    made = config(["hard"], WITHOUT_NORM, epochs=9, optimizer={"name": "sgd", "lr": 100.0})
    with pytest.raises(Diverged, match=r"read_\w+.*step \d+"):
        run_in(made, "hard")


@pytest.mark.parametrize(
    ("entry", "trainable", "learns"),
    [
        ("hard", "heads", {"heads"}),
        ({"hard": {"filter": True}}, "filters", {"filters", "heads"}),
        ({"adapters": {"filter": True}}, "filters", {"adapters", "filters", "heads"}),
        ("adapters", "all", {"adapters", "heads"}),
    ],
)
def test_frozen_trunk_keeps_weights_and_statistics(config, run_in, entry, trainable, learns):
    """Every bit of them, under the loop's momentum and decay."""
    decay = {"name": "sgd", "weight_decay": 5e-4}
    made = config([entry], epochs=1, trainable=trainable, optimizer=decay)
    key = made.methods[-1].key
    _, folder = run_in(made, key)
    with pytest.raises(Stopped):
        run_in(made, key, "stopped", stop_after=1)
    final = load_file(folder / "model.safetensors")
    state = checkpoint.load_state(folder.parent.parent / "stopped" / key)["method"]
    assert {n.split(".")[0] for n in final if not torch.equal(final[n], state[n])} == learns
    assert all(not value.any() for n, value in final.items() if n.endswith("running_mean"))


def test_dry_run_tells_a_loss_per_task_and_writes_nothing(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = config(["hard"])
    lines = list(dry_run(made, [made.method("hard")], 0))
    assert [line.split()[1] for line in lines] == ["read_handwriting", "read_print"]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_a_phase_of_one_task_asks_nothing_of_the_others(config):
    """Clustering trains an autoencoder first: no other column and no centre gets a gradient yet."""
    groups = {"kind": "clustering", "data": "handwritten"}
    read = {"kind": "classification", "data": "printed"}
    made = config(["single"], {"tasks": {"groups": groups, "read": read}})
    (line,) = dry_run(made, [made.method("single")], 0)
    assert line.startswith("single: groups loss")


def test_multi_path_learns_from_the_finished_single_run(config, run_in, tmp_path):
    """Teachers are the very `single` run of the comparison, trained once, and stay as they are."""
    made = config(["single", "multi_path"], epochs=1)
    comparison = tmp_path / "run"
    _, single = run_in(made, "single")
    single.rename(comparison / "seed0")
    (comparison / "single").mkdir()
    (comparison / "seed0").rename(comparison / "single" / "seed0")
    before = weights(comparison / "single" / "seed0")
    result, folder = run_in(made, "multi_path", comparison=comparison)
    assert weights(comparison / "single" / "seed0") == before
    assert result["extra_samples"] == sum(result["samples"].values())
    assert not [name for name in load_file(folder / "model.safetensors") if "teacher" in name]
    _, alone = run_in(made, "multi_path", "alone")
    assert weights(alone) == weights(folder)


def test_init_starts_from_the_backbone_of_a_run(config, run_in, tmp_path):
    """Nearly without training, the new run ends where the other ended; its heads are new."""
    _, first = run_in(config(["hard"], epochs=1), "hard", "first")
    still = {"name": "sgd", "lr": 1e-30}
    top = {"backbone": {"name": "resnet10", "stem": "small", "width": 0.0625, "init": str(first)}}
    _, second = run_in(config(["hard"], top, epochs=1, optimizer=still), "hard", "second")
    start, end = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    learned = [n for n in start if n.startswith("backbone.") and n.endswith("weight")]
    assert learned
    assert all(torch.equal(start[name], end[name]) for name in learned)
    assert not torch.equal(start["heads.read_print.2.weight"], end["heads.read_print.2.weight"])


@pytest.mark.parametrize("wrong", ["missing", "other width"])
def test_init_from_something_else_is_one_clear_line(config, run_in, tmp_path, wrong):
    _, first = run_in(config(["hard"], epochs=1), "hard", "first")
    backbone = {"name": "resnet10", "stem": "small", "width": 0.0625, "init": str(first)}
    if wrong == "missing":
        backbone["init"] = str(tmp_path / "nowhere")
    else:
        backbone["width"] = 0.125
    with pytest.raises(UserError, match=r"backbone\.init"):
        run_in(config(["hard"], {"backbone": backbone}), "hard", "second")

"""The best path in a budget: alternatives by question, scores from the run, clear refusals."""

import json
import shutil

import pytest
import yaml

from polytask.budget import Budget
from polytask.cli import main
from polytask.deploy.budget import within
from polytask.errors import RunError
from polytask.training import train

LEVELS = {
    "data": {"scenes": {"source": "shapes", "count": 60, "size": 24}},
    "tasks": {
        "fast": {"kind": "classification", "data": "scenes", "label": "shape"},
        "fine": {"kind": "classification", "data": "scenes", "label": "shape"},
        "looks": {"kind": "multilabel", "data": "scenes", "label": ["filled", "large"]},
    },
    "backbone": {"name": "resnet10", "stem": "small", "width": 0.125},
    "methods": [{"multi_exit": {"exits": {"fast": "layer1", "fine": "layer3", "looks": "layer2"}}}],
    "train": {"epochs": 1, "batch": 32},
    "seeds": 1,
}


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels") / "run"
    train(LEVELS, "multi_exit", out=folder)
    return folder


@pytest.fixture
def scored(levels, tmp_path):
    """A copy of the run with other scores on validation data."""

    def make(**scores):
        folder = tmp_path / "run"
        shutil.copytree(levels, folder, dirs_exist_ok=True)
        result = json.loads((folder / "result.json").read_text())
        for task, score in scores.items():
            result["val"][task]["accuracy"] = score
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    return make


def macs(folder):
    cost = json.loads((folder / "cost.json").read_text())["tasks"]
    return {task: cost[task]["macs"] for task in cost}


def chosen(folder, budget, **how):
    return {c.task for c in within(folder, Budget.parse(budget), **how).choices}


def test_the_best_alternative_that_fits_answers_and_a_cheaper_one_if_it_does_not(scored):
    folder = scored(fast=0.5, fine=0.9)
    used = macs(folder)
    assert used["fast"] < used["looks"] < used["fine"]
    assert chosen(folder, "1GMAC") == {"fine", "looks"}
    assert chosen(folder, f"{used['fine']}MAC") == {"fine", "looks"}
    assert chosen(folder, f"{used['fine'] - 1}MAC") == {"fast", "looks"}


def test_a_larger_path_that_scores_no_better_is_not_taken(scored):
    assert chosen(scored(fast=0.9, fine=0.5), "1GMAC") == {"fast", "looks"}
    assert chosen(scored(fast=0.7, fine=0.7), "1GMAC") == {"fast", "looks"}


def test_where_nothing_fits_the_smallest_path_is_named(levels):
    used = macs(levels)
    found = within(levels, Budget.parse(f"{used['fast']}MAC"))
    assert [c.task for c in found.choices] == ["fast"]
    assert "looks" in found.refused[0].problem
    with pytest.raises(RunError) as error:
        within(levels, Budget.parse("10MAC"), tasks=["fast", "fine"])
    (fault,) = error.value.faults
    assert "no path of fast, fine fits 10MAC" in fault.problem
    assert "smallest is that of fast" in fault.problem


def test_of_a_comparison_only_runs_that_have_finished_count(levels, tmp_path):
    config = yaml.safe_load((levels / "config.yaml").read_text())
    options = config["methods"][1]["multi_exit"]
    known = json.loads((levels / "tasks.json").read_text())
    for method in ("fallen", "whole"):
        config["methods"] = [{"multi_exit": {**options, "as": method}}]
        for seed in (0, 1):
            folder = tmp_path / method / f"seed{seed}"
            shutil.copytree(levels, folder)
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            told = {**known, "method": method, "seed": seed}
            (folder / "tasks.json").write_text(json.dumps(told))
    (tmp_path / "fallen" / "seed0" / "model.safetensors").unlink()

    def runs(**how):
        choices = within(tmp_path, Budget.parse("1GMAC"), tasks=["looks"], **how).choices
        return {(c.model.method, c.model.seed) for c in choices}

    assert runs(method="fallen") == {("fallen", 1)}
    assert runs() <= {("fallen", 1), ("whole", 0)}
    assert runs(seed=0) == {("whole", 0)}


def test_time_is_measured_and_parameters_are_counted(levels):
    choices = within(levels, Budget.parse("60s")).choices
    assert all(0 < choice.used < 60_000 for choice in choices)
    cost = json.loads((levels / "cost.json").read_text())["tasks"]["fast"]["params"]
    assert chosen(levels, f"{cost}params") == {"fast"}


def test_commands_write_and_answer_within_a_budget(levels, tmp_path, capsys):
    budget = f"{macs(levels)['fast']}MAC"
    image = next((levels / "samples").rglob("*.png"))
    assert main(["predict", str(levels), str(image), "--budget", budget, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert list(answer["answers"]) == ["fast"]
    out = tmp_path / "files"
    command = ["export", str(levels), "--budget", budget, "--format", "torch", "--out", str(out)]
    assert main(command) == 0
    assert sorted(p.name for p in out.iterdir()) == ["fast.json", "fast.pt2"]
    assert main(["export", str(levels), "--budget", "3MAC", "--out", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
    assert main(["export", str(levels), "--budget", "3"]) == 2

"""Searching: the grid is complete, budgets hold, a stopped search ends as one that was not."""

import contextlib
import itertools
import json
import pickle

import pytest
import yaml
from odd_trainer import train

from polytask.compare.worker import Reply
from polytask.config import read_config
from polytask.errors import ConfigError, UserError
from polytask.search.found import frontier
from polytask.search.run import _Search, search
from polytask.search.space import space_of
from polytask.search.study import Trial
from polytask.training.progress import Message

ODD = "odd_trainer:train"
EXITS = {"multi_exit": {"exits": {"shape": "layer4", "looks": "layer4"}}}


def scenes(method=EXITS, **section):
    return read_config(
        {
            "data": {"scenes": {"source": "shapes", "count": 40, "size": 24}},
            "tasks": {
                "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
                "looks": {"kind": "multilabel", "data": "scenes", "label": ["filled", "large"]},
            },
            "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
            "methods": ["single", method],
            "train": {"epochs": 1, "batch": 32},
            "seeds": 1,
            "search": section,
        }
    )


def test_the_exits_of_one_task_are_the_exit_table(tmp_path):
    stages = ["layer1", "layer2", "layer3", "layer4"]
    found = search(scenes(space={"exits.shape": stages}, budget="1.1MMAC"), tmp_path / "s", jobs=1)
    assert [t.values["exits.shape"] for t in found.trials] == stages
    costs = [t.cost for t in found.trials]
    assert costs == sorted(costs)
    assert {t.outcome for t in found.trials if t.cost > 1.1e6} <= {"over_budget"}
    assert all(t.outcome == "done" for t in found.trials if t.cost <= 1.1e6)
    chosen = yaml.safe_load((tmp_path / "s" / "chosen.yaml").read_text())
    best = max((t for t in found.trials if t.outcome == "done"), key=lambda t: (t.score, -t.cost))
    assert chosen["methods"][1]["multi_exit"]["exits"]["shape"] == best.values["exits.shape"]
    assert read_config(tmp_path / "s" / "chosen.yaml").search is None
    written = json.loads((tmp_path / "s" / "search.json").read_text())
    assert written["higher_is_better"] == {"shape": True, "looks": True}


def test_branches_within_a_budget_are_the_published_ones(tmp_path):
    """The quarter-width ResNet-18 of Park et al.: 0.027, 0.028, 0.030, 0.033 and 0.035 G."""
    method = {"multi_path": {"branches": {"shape": "layer4", "looks": "layer3"}, "distill": False}}
    config = scenes(method, budget="26.7MMAC", of="largest")
    wide = config.backbone.model_copy(update={"name": "resnet18", "width": 0.25})
    config = config.model_copy(update={"backbone": wide})
    data = {"scenes": config.data["scenes"].model_copy(update={"size": 32})}
    config = config.model_copy(update={"data": data})
    places = space_of(config).dimensions["branches.shape"][2:]
    section = config.search.model_copy(update={"space": {"branches.shape": places}})
    config = config.model_copy(update={"search": section})
    found = search(config, tmp_path / "s", jobs=1, train=ODD)
    million = [round(trial.cost / 1e6, 2) for trial in found.trials]
    assert million == [26.66, 27.84, 30.33, 32.69, 35.05]
    assert [trial.outcome for trial in found.trials] == ["done", *["over_budget"] * 4]
    assert found.chosen.values == {"branches.shape": "layer3"}


def test_what_would_be_wrong_in_every_trial_is_told_before_anything_is_written(tmp_path):
    options = {"exits": {"shape": "layer4"}, "balancing": {"graddrop": {"on": "representation"}}}
    config = scenes({"multi_exit": options}, space={"exits.shape": ["layer1", "layer2"]})
    with pytest.raises(UserError, match=r"MultiExit has no representation that all tasks read"):
        search(config, tmp_path / "s", train=ODD)
    assert not list(tmp_path.iterdir())


class Interrupt:
    """Stops a search when it tells of its trial of that number, after which it is resumed."""

    def __init__(self, number):
        self.number = number

    def __call__(self, event):
        if isinstance(event, Message) and event.text.startswith(f"trial {self.number} "):
            raise KeyboardInterrupt


def test_a_stopped_search_ends_as_one_that_was_not(tmp_path):
    config = scenes(sampler="tpe", trials=4, seed=3, space={"exits.shape": ["layer1", "layer4"]})
    whole = search(config, tmp_path / "whole", jobs=1, train=ODD)
    with pytest.raises(KeyboardInterrupt):
        search(config, tmp_path / "parts", Interrupt(1), jobs=1, train=ODD)
    parts = search(config, tmp_path / "parts", jobs=1, resume=True, train=ODD)
    assert parts.as_dict() == whole.as_dict()
    assert json.loads((tmp_path / "parts" / "search.json").read_text()) == whole.as_dict()
    assert len(whole.trials) == 4


class Here:
    """A pool of the real one's form that trains in this process."""

    def __init__(self, runs):
        self.runs = runs

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def train(self, jobs, ended):
        for job in jobs:
            made = pickle.loads(job.config)
            where = {"progress": None, "resume": True, "comparison": None}
            entry = made.method(job.method)
            train(made, entry, job.seed, job.folder, **where, devices=1, is_teacher=False)
            ended(job, Reply("done"))


def test_workers_are_enough_for_the_waves_to_come(tmp_path):
    """Of 9 networks, 4 a wave, 3 are trained before the search is stopped."""
    space = {f"exits.{task}": ["layer1", "layer2", "layer4"] for task in ("shape", "looks")}
    config = scenes(sampler="tpe", trials=9, seed=1, space=space)
    pools = []

    def made(runs):
        pools.append(Here(runs))
        return pools[-1]

    for show in (Interrupt(2), lambda event: None):
        with contextlib.suppress(KeyboardInterrupt):
            _Search(space_of(config), tmp_path, show).run(made)
    assert [pool.runs for pool in pools] == [4, 4]


def test_a_trial_that_loses_its_process_twice_is_told_and_tried_again_on_resume(tmp_path):
    config = scenes(space={"exits.shape": ["layer1", "layer2", "layer3"]}, seeds=2)
    config = config.model_copy(update={"seeds": [0, 1]})
    said = []
    folder = tmp_path / "s"
    found = search(config, folder, said.append, 1, train=ODD)
    assert [t.outcome for t in found.trials] == ["done", "failed", "failed"]
    assert found.trials[0].tasks == {"shape": pytest.approx(0.55), "looks": 0.5}
    assert "SIGKILL" in found.trials[1].reason
    assert found.trials[1].reason.endswith("the second time")
    assert "task 'shape' became nan at step 3" in found.trials[2].reason
    assert found.chosen.number == 0
    retried = [e.text for e in said if isinstance(e, Message) and "tried again" in e.text]
    assert [line.split(":")[0] for line in retried] == ["trial 1/seed1"]

    found = search(config, folder, jobs=1, resume=True, train=ODD)
    assert [t.outcome for t in found.trials] == ["done", "done", "failed"]
    assert found.chosen.number == 1
    times = {path.parent: len(path.read_text()) for path in folder.rglob("attempts")}
    trials = folder / "trials"
    assert times[trials / "0001" / "seed1"] == 3
    assert sum(times.values()) == 2 + 1 + 3 + 2


def test_spaces_of_the_methods():
    stages = ["layer1", "layer2", "layer3", "layer4"]
    assert space_of(scenes()).dimensions == {"exits.shape": stages, "exits.looks": stages}
    thresholds = space_of(scenes("kernel_sharing")).dimensions["threshold"]
    assert thresholds[:9] == pytest.approx([0.1 * i for i in range(1, 10)])
    assert thresholds[9] > 1
    levels = space_of(scenes("nested_net"))
    assert levels.size == 16
    first = next(iter(levels.grid()))
    assert levels.at(first).methods[1].options.ratios == [0.25, 0.25]
    branches = space_of(scenes({"multi_path": {"distill": False}})).dimensions["branches.shape"]
    assert branches[:3] == stages[:3]
    assert all(place.startswith("layer4.") for place in branches[3:])
    assert len(branches) > 4


def test_a_span_is_a_grid_only_with_a_step(tmp_path):
    span = {"threshold": {"low": 0.1, "high": 0.5, "step": 0.2}}
    space = space_of(scenes("kernel_sharing", space=span))
    assert space.grid() == [{"threshold": t} for t in (0.1, 0.3, 0.5)]
    endless = scenes("kernel_sharing", sampler="grid", space={"threshold": {"low": 0, "high": 1}})
    with pytest.raises(ConfigError, match="got no step"):
        search(endless, tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("{space: {exits.shape: [layer1, layr2]}}", "search.space.exits.shape", "layer2"),
        ("{space: {exit.shape: [layer1]}}", "search.space.exit.shape", 'unknown key "exit"'),
        ("{budget: 35M}", "search.budget", "35MMAC"),
        ("{method: hard}", "search.method", 'unknown method "hard"'),
        ("{space: {exits.shape: {low: 2, high: 1}}}", "search.space.exits.shape", "low below high"),
        ("{trails: 3}", "search.trails", "trials"),
    ],
)
def test_faults_have_their_line(tmp_path, text, where, said):
    path = tmp_path / "s.yaml"
    written = yaml.safe_dump({**scenes().data_dict(), "search": None})
    path.write_text(written.replace("search: null", f"search: {text}"))
    with pytest.raises(UserError) as error:
        search(read_config(path), tmp_path / "out")
    lines = path.read_text().splitlines()
    line = 1 + next(i for i, text in enumerate(lines) if text.startswith("search"))
    (fault,) = error.value.faults
    assert fault.where == f"{path}:{line} {where}"
    assert said in f"{fault.problem} {fault.hint}"
    assert not (tmp_path / "out").exists()


def test_the_front_is_what_no_trial_beats_on_both():
    points = [(0.5, 3.0), (0.6, 3.0), (0.6, 4.0), (0.4, 1.0), (0.9, 9.0), (0.3, 2.0)]
    trials = [Trial(i, {}, "done", s, c) for i, (s, c) in enumerate(points)]
    front = frontier(trials)
    assert [(t.score, t.cost) for t in front] == [(0.4, 1.0), (0.6, 3.0), (0.9, 9.0)]
    for one, other in itertools.permutations(front, 2):
        assert (one.score > other.score) == (one.cost > other.cost)

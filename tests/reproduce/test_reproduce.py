"""The papers' experiments: their data, the verdict's arithmetic, and a run from outside."""

import json

import pytest

from polytask.config import read_config
from polytask.data.sources.cifar import ABOVE
from polytask.reproduce import experiment as experiments_module
from polytask.reproduce.experiment import experiments, find
from polytask.reproduce.outcome import CONTRADICTED, INCONCLUSIVE, REPRODUCED, judge, outcome

TINY = """
paper: Somebody, "Something"
published: some.csv
scales:
  small:
    folder: .
    minutes: 1
    standing_in: {shape: generated scenes}
    config:
      data: {scenes: {source: shapes, count: 60, size: 24}}
      tasks:
        shape: {kind: classification, data: scenes, label: shape}
        looks: {kind: multilabel, data: scenes, label: [filled, large]}
      backbone: {name: resnet10, stem: small, width: 0.0625}
      train: {epochs: 1, batch: 16}
      seeds: 2
experiments:
  some_table1:
    table: "1"
    claim: All
    methods: {Alone: single, All: {hard: {as: together}}}
"""
NUMBERS = """# made for this test
table,method,task,metric,mean,std
1,Alone,shape,accuracy,0.50,0.01
1,All,shape,accuracy,0.60,
1,Quoted,shape,accuracy,0.70,
1,All,unknown_task,accuracy,0.60,
2,All,shape,accuracy,0.10,
"""


@pytest.mark.parametrize("name", experiments())
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_configs_are_valid_and_their_tasks_have_published_numbers(name, scale):
    one = find(name)
    chosen = one.scale(scale)
    config = read_config({**chosen.config, "methods": list(one.methods.values())})
    keys = [entry.key for entry in config.methods]
    named = [one.key(row) for row in one.methods]
    assert keys == (named if "single" in named else ["single", *named])
    assert one.claim in one.methods
    quoted = {"Source only", "Classification CETL"} if name == "metric_ensemble_table4" else set()
    assert {*one.methods, *quoted} == {row for row, _, _ in one.published}
    assert set(config.tasks) == {task for _, task, _ in one.published}
    if scale == "small":
        assert set(chosen.standing_in) <= set(config.tasks)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("multi_path_table2", (96.88, 95.77, 96.10, 97.87, 96.36, 96.09)),
        ("multi_path_table2_cifar100", (80.26, 76.41, 76.98, 80.10, 79.34, 79.06)),
    ],
)
def test_published_means_of_multi_path_are_those_of_its_table(name, expected):
    """Table 2 of Park et al.: mean accuracy over five tasks of CIFAR-10 and -100, in percent."""
    rows = find(name).published
    means = {
        row: sum(rows[row, f"task{i}", "accuracy"].mean for i in range(1, 6)) * 20
        for row in ("Baseline", "PackNet", "NestedNet", "MTAN", "AdaShare", "Ours")
    }
    assert list(means.values()) == pytest.approx(expected, abs=0.006)


def test_split_cifar_100_has_every_class_in_the_order_of_numbers():
    config = find("multi_path_table2_cifar100").scale("small").config
    parts = [part["only"]["class"] for part in config["data"].values()]
    assert [len(part) for part in parts] == [20] * 5
    # CIFAR-100 numbers its classes by the alphabet.
    assert [name for part in parts for name in part] == sorted(ABOVE)


def test_what_is_drawn_and_not_printed_is_measured_alone():
    """The curriculum of Park et al. is a figure: gains have nothing to be held against."""
    one = find("multi_path_curriculum")
    assert {figure.mean for figure in one.published.values()} == {None}
    facts = {"higher_is_better": True, "primary": "accuracy"}
    scores = {"Baseline": [0.5, 0.6, 0.7], "Ours": [0.6, 0.7, 0.8]}
    results = {
        "seeds": [0, 1, 2],
        "tasks": {"easy": facts},
        "versions": {},
        "methods": {
            one.key(row): {
                "tasks": {
                    "easy": {"accuracy": {"mean": 0, "per_seed": scores.get(row, scores["Ours"])}}
                }
            }
            for row in one.methods
        },
    }
    found = outcome(one, "small", results, "2026-01-01")
    ours = found["methods"]["Ours"]
    assert (ours["published_gain"], ours["verdict"]) == (None, INCONCLUSIVE)
    assert ours["gain"] == pytest.approx(0.1)


def test_published_figures_are_the_papers():
    """Tables 3 and 4 of Feng and Chen: A with MTAL .98 ± .014; COIL-20 alone 1, no deviation."""
    assert find("mtal_table3").published["MTAL", "capital_letters", "accuracy"] == (0.98, 0.014)
    assert find("mtal_table4").published["Single-task", "coil20", "accuracy"] == (1, None)


def test_scales_share_what_their_configs_have_in_common():
    scales = find("metric_ensemble_table6").scales
    small, paper = (scales[name].config["pretraining"] for name in ("small", "paper"))
    assert list(small) == list(paper)
    for name, part in small.items():
        own = {} if name in ("tte_alexnet", "tte_vgg16") else {"name": "resnet50"}
        assert {**part["backbone"], **own} == part["backbone"]
        assert part["tasks"].get("Jig", {"grid": 2})["grid"] == 2
        assert "grid" not in paper[name]["tasks"].get("Jig", {})
    assert small["tte_vgg16"]["backbone"] == {"name": "vgg16_bn", "width": 0.125}
    assert paper["tte_vgg16"]["backbone"] == "vgg16"


@pytest.mark.parametrize(
    ("published", "interval", "verdict"),
    [
        (0.1, (0.01, 0.2), REPRODUCED),
        (0.1, (-0.01, 0.2), INCONCLUSIVE),
        (0.1, (-0.2, -0.01), CONTRADICTED),
        (-0.1, (-0.2, -0.01), REPRODUCED),
        (-0.1, (0.01, 0.2), CONTRADICTED),
        (0.0, (0.01, 0.2), INCONCLUSIVE),
        (None, (0.01, 0.2), INCONCLUSIVE),
        (0.1, None, INCONCLUSIVE),
    ],
)
def test_the_verdict_asks_on_which_side_of_zero_the_interval_lies(published, interval, verdict):
    assert judge(published, interval) == verdict


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    (tmp_path / "some.yaml").write_text(TINY)
    (tmp_path / "some.csv").write_text(NUMBERS)
    monkeypatch.setattr(experiments_module, "EXPERIMENTS", tmp_path)
    monkeypatch.setattr(experiments_module, "PUBLISHED", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spread(*values):
    return {"mean": sum(values) / len(values), "std": None, "per_seed": list(values)}


@pytest.mark.parametrize("is_higher_better", [True, False])
def test_gains_are_paired_by_seed(tiny, is_higher_better):
    """Gains .1 and .2: mean .15, interval .15 ± 12.706 · .0707 / √2; a failed seed has no pair."""
    results = {
        "methods": {
            "single": {"tasks": {"shape": {"accuracy": spread(0.4, 0.5, 0.9)}}},
            "together": {"tasks": {"shape": {"accuracy": {**spread(0.5, 0.7)}}}},
        },
        "tasks": {"shape": {"primary": "accuracy", "higher_is_better": is_higher_better}},
        "seeds": [0, 1, 2],
        "versions": {},
    }
    results["methods"]["together"]["tasks"]["shape"]["accuracy"]["per_seed"].append(None)
    found = outcome(find("some_table1"), "small", results, "2026-01-01")
    alone, together, _ = found["rows"]
    assert alone["verdict"] is None
    sign = 1 if is_higher_better else -1
    assert together["published_gain"] == pytest.approx(0.1 * sign)
    assert together["gain"] == pytest.approx(0.15 * sign)
    ends = sorted(sign * (0.15 + side * 0.6353102) for side in (-1, 1))
    assert together["ci95"] == pytest.approx(ends, abs=1e-6)
    assert found["methods"]["All"]["gain"] == pytest.approx(0.15 * sign)
    assert found["verdict"] == INCONCLUSIVE


def run(capsys, *arguments):
    from polytask.cli import main

    capsys.readouterr()
    code = main(list(arguments))
    return code, *capsys.readouterr()


def test_an_experiment_from_outside(tiny, capsys):
    code, out, _ = run(capsys, "reproduce", "--list", "--json")
    assert code == 0
    (listed,) = json.loads(out)["experiments"]
    assert set(listed) == {"name", "paper", "table", "scales", "status"}
    assert (listed["name"], listed["scales"]) == ("some_table1", ["small"])
    assert listed["status"] == "not run here"
    code, out, _ = run(capsys, "reproduce", "some_table1", "--json")
    assert code == 0
    first = json.loads(out)
    assert [row["row"] for row in first["rows"]] == ["Alone", "All", "Quoted"]
    quoted = first["rows"][2]
    assert (quoted["method"], quoted["published"]["mean"], quoted["verdict"]) == (None, 0.7, None)
    measured = json.loads((tiny / first["folder"] / "results.json").read_text())
    single = measured["methods"]["single"]["tasks"]["shape"]["accuracy"]["per_seed"]
    assert first["rows"][0]["measured"]["per_seed"] == single
    page = (tiny / first["folder"] / "report.html").read_text("utf-8")
    assert "Beside the paper" in page
    assert "<td>0.500 ± 0.010</td>" in page
    code, out, _ = run(capsys, "reproduce", "some_table1")
    assert code == 0
    assert "shape: generated scenes" in out
    assert any(line.split()[1:] == ["Quoted", "0.700", "not", "run"] for line in out.splitlines())
    assert out.splitlines()[-2] == f"All: {first['verdict']}"
    code, out, _ = run(capsys, "reproduce", "--list", "--json")
    assert json.loads(out)["experiments"][0]["status"] == f"small: {first['verdict']}"


def test_runs_that_failed_are_named_and_end_it_with_1(tiny, capsys):
    diverging = TINY.replace("resnet10", "vgg11").replace("seeds: 2", "seeds: 1")
    optimizer = "batch: 4, optimizer: {name: sgd, lr: 100, momentum: 0.99}"
    (tiny / "some.yaml").write_text(diverging.replace("batch: 16", optimizer))
    code, out, err = run(capsys, "reproduce", "some_table1", "--json", "--jobs", "1")
    assert code == 1, err
    assert "failed: single/seed0, together/seed0" in err
    found = json.loads(out)
    assert found["failed"] == ["single/seed0", "together/seed0"]
    assert found["verdict"] == INCONCLUSIVE


def test_what_is_wrong_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (["mtal_table33"], 'Did you mean "mtal_table3"?'),
        (["mtal_table3", "--scale", "smal"], 'Did you mean "small"?'),
        (["mtal_table3", "--data", "."], "data set omniglot expects"),
        (["multi_path_table2_cifar100", "--data", "."], "data set part5 expects"),
    ):
        code, out, err = run(capsys, "reproduce", *arguments)
        assert (code, out) == (2, "")
        assert said in err
    assert list(tmp_path.iterdir()) == []

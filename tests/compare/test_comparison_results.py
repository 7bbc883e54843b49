"""The results' files, and the run that is used where none is named."""

import csv
import json

import pytest
from run_results import finished

from polytask.compare.outcome import Outcome, read_outcome
from polytask.compare.results import Results, best_run
from polytask.compare.summary import Plan, Summary
from polytask.errors import RunError


def test_files_read_back(tmp_path, data):
    Results(tmp_path, data).write()
    assert Results.read(tmp_path).data == data
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    # 2 methods × 3 seeds × (2 metrics of read + 1 of depth)
    assert len(rows) == 18
    assert rows[0] == {
        "method": "single",
        "seed": "0",
        "task": "read",
        "metric": "accuracy",
        "split": "test",
        "value": "0.8",
    }
    values = {tuple(r[k] for k in ("method", "seed", "task", "metric")): r["value"] for r in rows}
    assert float(values["hard", "2", "depth", "abs_error"]) == 2.2


def test_a_run_that_failed_has_no_rows(tmp_path, plan, outcomes):
    lost = Outcome("hard", 2, failure="failed", reason="killed")
    results = Results(tmp_path, Summary(plan, [*outcomes[:-1], lost]).as_dict({}, {}))
    assert "hard,2," not in results.csv()
    assert "hard,1," in results.csv()
    assert [(o.label, o.words) for o in results.failures] == [("hard/seed2", "failed")]


def test_health_is_a_line_a_task(tmp_path, plan, outcomes):
    weak = finished("hard", 2, 0.1, 2.0, health="at_chance")
    results = Results(tmp_path, Summary(plan, [*outcomes[:-1], weak]).as_dict({}, {}))
    assert results.health == ["read: learning (single); at chance (hard)", "depth: learning"]


def best(tmp_path, validation, failed=()):
    """`validation`: for each method its (accuracy, error) on validation data; test is constant."""
    outcomes = []
    for method, scores in validation.items():
        for seed in (4, 7):
            if (method, seed) in failed:
                outcomes.append(Outcome(method, seed, failure="failed", reason="x"))
            else:
                outcomes.append(finished(method, seed, 0.8, 2.0, val=scores))
    plan = Plan(list(validation), [4, 7], ["read", "depth"], {})
    Results(tmp_path, Summary(plan, outcomes).as_dict({}, {})).write()
    return best_run(tmp_path)


def test_the_best_method_is_chosen_on_validation_data(tmp_path):
    # filter: +10 % and −10 %; hard: +5 % and +5 %.
    scores = {"single": (0.8, 2.0), "filter": (0.88, 2.2), "hard": (0.84, 1.9)}
    assert best(tmp_path, scores) == ("hard", 4)


def test_single_is_used_where_nothing_beats_it(tmp_path):
    assert best(tmp_path, {"single": (0.8, 2.0), "hard": (0.8, 2.0)}) == ("single", 4)
    assert best(tmp_path, {"single": (0.8, 2.0), "hard": (0.7, 2.0)}) == ("single", 4)


def test_a_method_with_failed_runs_comes_after_those_without(tmp_path):
    scores = {"single": (0.8, 2.0), "hard": (0.99, 1.0), "filter": (0.81, 2.0)}
    assert best(tmp_path, scores, failed={("hard", 4)}) == ("filter", 4)


def test_the_seed_is_the_first_that_finished(tmp_path):
    scores = {"single": (0.8, 2.0), "hard": (0.99, 1.0)}
    assert best(tmp_path, scores, failed={("hard", 4), ("single", 4)}) == ("hard", 7)


def test_an_unfinished_comparison_has_no_best_run(tmp_path):
    with pytest.raises(RunError, match=r"results\.json.*--resume"):
        best_run(tmp_path)
    with pytest.raises(RunError, match="no finished run"):
        best(tmp_path, {"single": (0.8, 2.0)}, failed={("single", 4), ("single", 7)})


@pytest.mark.parametrize("content", [b"{", b"\xfb", b"[]", b'{"a": []}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(RunError, match=r"results\.json: is damaged"):
        Results.read(tmp_path)
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(RunError, match=r"result\.json: is damaged"):
        read_outcome("hard", 0, tmp_path)


def test_results_show_as_a_table_in_a_notebook(tmp_path, data):
    data = json.loads(json.dumps(data).replace('"hard"', '"<hard>"'))
    page = Results(tmp_path, data)._repr_html_()
    assert page.startswith("<table>")
    assert "&lt;hard&gt;" in page
    assert "<hard>" not in page
    assert "+1.7" in page

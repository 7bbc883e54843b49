"""The page of a search: every score by every option that varied, and all trials in a table."""

import json
import re

import pytest

from polytask.errors import RunError
from polytask.report import report


def trial(number, values, outcome="done", score=None, reason=""):
    tasks = None if score is None else {"a": score, "<b>": score / 2}
    return {
        "number": number,
        "values": values,
        "outcome": outcome,
        "score": score,
        "cost": 2e6,
        "tasks": tasks,
        "reason": reason,
    }


def write(folder, trials, chosen, **more):
    found = {"unit": "macs", "trials": trials, "front": [chosen], "chosen": chosen, **more}
    (folder / "search.json").write_text(json.dumps({**found, "config": "chosen.yaml"}))


def test_a_sweep_is_drawn_and_told(tmp_path):
    """Two options, one of which varies: a figure a score, numbers in order, the rest a remark."""
    trials = [
        trial(0, {"threshold": 0.9, "phi": "half"}, score=0.5),
        trial(1, {"threshold": 0.1, "phi": "half"}, score=0.75),
        trial(2, {"threshold": 0.1, "phi": "half"}, score=0.25),
        trial(3, {"threshold": 1.1, "phi": "half"}, "over_budget", reason="2M is over 1M"),
    ]
    write(tmp_path, trials, 1)
    page = report(tmp_path).read_text()
    assert "Best: threshold 0.1, phi half" in page
    labels = re.findall(r'aria-label="([^"]*)"', page)
    assert labels == [
        "mean score by threshold, the best of each. 0.1: 0.7500; 0.9: 0.5000",
        "a score by threshold, the best of each. 0.1: 0.7500; 0.9: 0.5000",
        "&lt;b&gt; score by threshold, the best of each. 0.1: 0.3750; 0.9: 0.2500",
    ]
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    assert len(rows) == 1 + len(trials)
    assert rows[2].endswith("<td>chosen</td>")
    assert rows[4].endswith("<td>over budget: 2M is over 1M</td>")
    assert "<b>" not in page
    assert not re.search(r"(src|href)=\"(?!#)|https?://", page.split("</style>")[1])


def test_of_errors_the_least_is_the_best(tmp_path):
    trials = [trial(number, {"threshold": 0.5 + number % 2}, score=0) for number in range(3)]
    for each, depth in zip(trials, (0.12, 0.55, 0.25), strict=True):
        each.update(score=-depth, tasks={"depth": depth})
    write(tmp_path, trials, 0, higher_is_better={"depth": False})
    page = report(tmp_path).read_text()
    assert "mean score by threshold, the best of each. 0.5: -0.1200; 1.5: -0.5500" in page
    assert "depth error by threshold, the best of each. 0.5: 0.1200; 1.5: 0.5500" in page
    assert "Errors count negative" in page


def test_a_search_that_trained_nothing_has_a_page(tmp_path):
    write(tmp_path, [trial(0, {"threshold": 0.9}, "failed", reason="why")], None)
    page = report(tmp_path).read_text()
    assert "Nothing within the budget was trained" in page
    assert "failed: why" in page


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        report(tmp_path)

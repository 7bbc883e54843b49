"""The table of a comparison in a terminal and in a pipe."""

import io

import pytest
from rich.console import Console

from polytask.report import plain_table, terminal_table
from polytask.report.table import result_grid


@pytest.fixture
def results(tmp_path, make_comparison):
    return make_comparison(tmp_path / "c", methods=("hard", "single", "multi_exit"))


def test_single_stands_first_and_numbers_are_those_of_the_results(results):
    grid = result_grid(results)
    assert [row[0] for row in grid.rows] == ["single", "hard", "multi_exit"]
    scores = results["methods"]["hard"]["tasks"]["read_print"]["accuracy"]
    assert grid.rows[1][2] == f"{100 * scores['mean']:.1f} ± {100 * scores['std']:.1f}"
    assert grid.rows[1][3:5] == ["+0.2 [−1.9, 2.3]", "unclear"]
    assert grid.rows[0][3:5] == ["", ""]


def test_the_primary_metric_decides_even_when_listed_last(results):
    task = results["methods"]["single"]["tasks"]["read_print"]
    for method in results["methods"].values():
        scores = method["tasks"]["read_print"]
        method["tasks"]["read_print"] = dict(reversed(scores.items()))
    wanted = f"{100 * task['accuracy']['mean']:.1f} ±"
    assert result_grid(results).rows[0][2].startswith(wanted)


def test_piped_lines_are_whole_and_aligned(results):
    long = "a task whose name is far longer than any terminal is wide, " * 4
    for method in results["methods"].values():
        method["tasks"][long] = method["tasks"]["read_print"]
    header, *lines = plain_table(results).split("\n")
    assert long in header
    assert len(lines) == 3
    edge = header.index("verdict")
    assert {line[edge - 1] for line in lines} == {" "}
    assert [line[edge:].split()[0] for line in lines[1:]] == ["unclear", "helps"]


def test_wide_letters_keep_the_columns_straight(results):
    methods = results["methods"]
    renamed = {"猫猫猫" if name == "hard" else name: method for name, method in methods.items()}
    lines = plain_table({**results, "methods": renamed}).split("\n")
    ends = {len(line) + (3 if line.startswith("猫") else 0) for line in lines}
    assert len(ends) == 1


def test_names_are_text_and_not_markup(results):
    results["methods"]["[bold red]x[/]"] = results["methods"]["hard"]
    screen = Console(file=io.StringIO(), width=200)
    screen.print(terminal_table(results))
    shown = screen.file.getvalue()
    assert "[bold red]x[/]" in shown
    assert "+0.2 [−1.9, 2.3]" in shown


def test_a_method_without_scores_or_cost_still_has_a_row(results):
    results["methods"]["broken"] = {
        "tasks": {},
        "delta_m": None,
        "verdict": None,
        "cost": {"total": None, "tasks": {}},
        "health": {},
        "train_seconds": None,
    }
    assert result_grid(results).rows[-1] == ["broken", "–", "–", "", "", "–", "–"]

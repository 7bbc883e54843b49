"""A page for a search: what every option did to the scores, and all trials in a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from polytask.budget import amount
from polytask.errors import RunError
from polytask.report.figures.sweep import sweep_figure
from polytask.report.frame import figures, framed, line
from polytask.report.palette import looks

MEAN = "mean"


def trials_page(file: Path) -> str:
    """The page of a search's `search.json` as HTML.

    Raises:
        RunError: the file is damaged.
    """
    try:
        found = json.loads(file.read_bytes())
        return _page(found, file.parent)
    except (ValueError, LookupError, TypeError) as error:
        raise RunError.at(str(file), "is damaged; search --resume writes it anew.") from error


def _page(found: Mapping[str, Any], folder: Path) -> str:
    done = [trial for trial in found["trials"] if trial["outcome"] == "done"]
    chosen = next((trial for trial in done if trial["number"] == found["chosen"]), None)
    headline = "Nothing within the budget was trained"
    if chosen is not None:
        headline = f"Best: {_values(chosen)}"
    signs = " Errors count negative in the mean." if _errors(found) else ""
    lead = (
        f"{len(found['trials'])} combinations tried, {len(done)} trained; scores on validation "
        f"data, the mean of the tasks' primary metrics.{signs}"
    )
    body = [figures(list(_sweeps(done, found["chosen"], _errors(found)))), _table(found)]
    if chosen is not None:
        body.append(line(f"polytask compare {folder / found['config']}"))
    kind = f"Search {folder.resolve().name}"
    return framed(kind, kind, headline, lead, "\n".join(body))


def _values(trial: Mapping[str, Any]) -> str:
    return ", ".join(f"{option} {value}" for option, value in trial["values"].items())


def _errors(found: Mapping[str, Any]) -> set[str]:
    """The tasks whose scores are errors; none is known of a file that does not say so."""
    return {task for task, is_so in found.get("higher_is_better", {}).items() if not is_so}


def _sweeps(
    done: list[Any], chosen: int | None, errors: set[str]
) -> Iterator[tuple[str, str, str]]:
    """A figure for each option that varies and each score."""
    if not done:
        return
    numbers = [trial["number"] for trial in done]
    at = numbers.index(chosen) if chosen in numbers else None
    scores = {MEAN: [trial["score"] for trial in done]}
    scores |= {task: [trial["tasks"][task] for trial in done] for task in done[0]["tasks"]}
    drawn = looks(list(scores))
    for option in done[0]["values"]:
        values = [_plain(trial["values"][option]) for trial in done]
        if len(set(values)) < 2:
            continue
        for score, found in scores.items():
            is_error = score in errors
            title = f"{score} {'error' if is_error else 'score'}"
            svg = sweep_figure(option, values, found, drawn[score], title, at, is_error)
            yield score, f"by {option}", svg


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)


def _table(found: Mapping[str, Any]) -> str:
    trials = found["trials"]
    if not trials:
        return ""
    options = list(trials[0]["values"])
    tasks = next((list(trial["tasks"]) for trial in trials if trial["tasks"]), [])
    head = ["trial", *options, *tasks, MEAN, "cost", ""]
    rows = []
    for trial in trials:
        scores = [(trial["tasks"] or {}).get(task) for task in tasks] + [trial["score"]]
        cells = [str(trial["number"]), *(str(trial["values"][option]) for option in options)]
        cells += ["–" if score is None else f"{score:.4f}" for score in scores]
        cells.append("–" if trial["cost"] is None else amount(trial["cost"], found["unit"]))
        cells.append(_remark(trial, found))
        rows.append(cells)
    lines = [_row("th", head), *(_row("td", cells) for cells in rows)]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _remark(trial: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if trial["outcome"] != "done":
        return f"{trial['outcome'].replace('_', ' ')}: {trial['reason']}"
    if trial["number"] == found["chosen"]:
        return "chosen"
    return "front" if trial["number"] in found["front"] else ""


def _row(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

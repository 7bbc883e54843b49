"""The results of a finished comparison, as files and as an object."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.compare.outcome import Outcome
from polytask.errors import RunError

if TYPE_CHECKING:
    from rich.table import Table

RESULTS, TABLE = "results.json", "results.csv"
COLUMNS = ("method", "seed", "task", "metric", "split", "value")


class Results:
    """What a comparison found: `data` is the content of its `results.json`, `path` its folder."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self.path = path
        self.data = data

    @classmethod
    def read(cls, folder: Path) -> Results:
        """The results in a comparison's folder.

        Raises:
            RunError: there are none, or the file is damaged.
        """
        path = folder / RESULTS
        if not path.exists():
            raise RunError.at(
                str(folder), f"holds no {RESULTS}: no finished comparison.", "Go on with --resume."
            )
        try:
            data = json.loads(path.read_bytes())
            data["methods"]
        except (ValueError, LookupError, TypeError) as error:
            raise RunError.at(
                str(path), "is damaged.", "Delete it and go on with --resume."
            ) from error
        return cls(folder, data)

    def write(self) -> None:
        """Write `results.csv` and, last, `results.json`, each in one step."""
        from polytask.training.checkpoint import write_json, write_text

        write_text(self.path / TABLE, self.csv())
        write_json(self.path / RESULTS, self.data)

    @property
    def failures(self) -> list[Outcome]:
        """The runs that did not finish, each with the reason."""
        return [
            Outcome(method, cost=found["cost"], **run)
            for method, found in self.data["methods"].items()
            for run in found["failed"]
        ]

    @property
    def health(self) -> list[str]:
        """A line per task: `read: learning (single, hard); at chance (multi_exit)`."""
        lines = []
        for task in self.data["tasks"]:
            said: dict[str, list[str]] = {}
            for method, found in self.data["methods"].items():
                if task in found["health"]:
                    said.setdefault(found["health"][task].replace("_", " "), []).append(method)
            words = [f"{word} ({', '.join(methods)})" for word, methods in said.items()]
            lines.append(f"{task}: {next(iter(said)) if len(said) == 1 else '; '.join(words)}")
        return lines

    @property
    def best(self) -> tuple[str, int]:
        """The method best on validation data, and its first finished seed.

        A method with failed runs counts only where no method is without. Among equals the first
        of the config wins, which is `single`.

        Raises:
            RunError: no run has finished.
        """
        methods = self.data["methods"]
        seeds = {name: self._finished_seeds(found) for name, found in methods.items()}
        most = max(map(len, seeds.values()), default=0)
        if most == 0:
            raise RunError.at(str(self.path), "holds no finished run.", "Go on with --resume.")
        candidates = [name for name in methods if len(seeds[name]) == most]

        def on_validation(name: str) -> float:
            gain = methods[name]["validation_delta_m"]
            return float("-inf") if gain is None else gain

        best = max(candidates, key=on_validation)
        return best, seeds[best][0]

    def _finished_seeds(self, method: Mapping[str, Any]) -> list[int]:
        failed = {run["seed"] for run in method["failed"]}
        return [seed for seed in self.data["seeds"] if seed not in failed]

    def csv(self) -> str:
        """One row per method, seed, task and metric of the test split."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._rows())
        return sink.getvalue()

    def _rows(self) -> Iterator[tuple[str, int, str, str, str, float]]:
        for method, found in self.data["methods"].items():
            for i, seed in enumerate(self.data["seeds"]):
                for task, metrics in found["tasks"].items():
                    for metric, spread in metrics.items():
                        if spread["per_seed"][i] is not None:
                            yield method, seed, task, metric, "test", spread["per_seed"][i]

    def __repr__(self) -> str:
        return f"Results({str(self.path)!r}: {', '.join(self.data['methods'])})"

    def __rich__(self) -> Table:
        from polytask.report.table import terminal_table

        return terminal_table(self.data)

    def _repr_html_(self) -> str:
        from html import escape

        from polytask.report.table import result_grid

        grid = result_grid(self.data)
        head = "".join(f"<th>{escape(cell)}</th>" for cell in grid.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in grid.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def best_run(folder: Path) -> tuple[str, int]:
    """The (method, seed) of a comparison that is used where none is named.

    Raises:
        RunError: the comparison has not finished.
    """
    return Results.read(folder).best

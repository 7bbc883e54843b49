"""What a run writes for people and other commands while it trains: rows, descriptions, the log."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from polytask.cost import measure
from polytask.data.pipeline import Data
from polytask.data.sheet import write_sheets
from polytask.sharing.method import SharingMethod
from polytask.training import checkpoint, output
from polytask.training.evaluation import Scores
from polytask.training.loggers import About, Loggers

if TYPE_CHECKING:
    from polytask.config.models import Config

Tell: TypeAlias = Callable[[str], object]


class Record:
    """The files of a run folder, but for its state; `rows` counts those of `metrics.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self.loggers = Loggers()

    def begin(
        self, config: Config, method: SharingMethod, data: Data, about: Mapping[str, Any]
    ) -> None:
        """Write what is known before the first step; `about` names the method and the seed."""
        (self.folder / "plots").mkdir(exist_ok=True)  # of methods that have something to show
        checkpoint.write_text(self.folder / "metrics.jsonl", "")
        checkpoint.write_text(self.folder / output.CONFIG, config.dump())
        self.write_cost(method)
        streams = {
            name: {"channels": size.channels, "height": size.height, "width": size.width}
            for name, size in data.streams.items()
        }
        checkpoint.write_json(
            self.folder / output.DESCRIPTION,
            {
                **about,
                "tasks": {name: task.describe() for name, task in method.tasks.items()},
                "streams": streams,
                "stream_of": dict(data.stream_of),
                "normalisation": asdict(data.normalisation),
            },
        )
        with contextlib.closing(data.epoch(0)) as batches:
            sheets = self.folder / "samples"
            write_sheets(next(batches), method.tasks, data.normalisation, sheets)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(data.describe(), indent=1) + "\n")

    def write_cost(self, method: SharingMethod) -> None:
        """Write `cost.json`; training may change a cost (pruning, skipped blocks)."""
        checkpoint.write_json(self.folder / "cost.json", measure(method).as_dict())

    @contextmanager
    def logged(self, config: Config, method: str, seed: int, tell: Tell) -> Iterator[None]:
        """Inside, the config's loggers get the rows too, from the first on."""
        about = About(self.folder, config, method, seed)
        self.loggers = Loggers(about, map(json.loads, self._lines()), tell)
        is_finished = False
        try:
            yield
            is_finished = True
        finally:
            self.loggers.end(is_finished)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row to `metrics.jsonl`, and to what else is logged."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(row) + "\n")
        self.rows += 1
        self.loggers.add(row)

    def _lines(self) -> list[str]:
        path = self.folder / "metrics.jsonl"
        return path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []

    def keep(self, rows: int) -> None:
        """Drop the rows that a stopped run wrote after its last saved state."""
        checkpoint.write_text(self.folder / "metrics.jsonl", "".join(self._lines()[:rows]))
        self.rows = rows


class Unwritten(Record):
    """The record of the other processes of a run: the first one writes."""

    def begin(
        self, config: Config, method: SharingMethod, data: Data, about: Mapping[str, Any]
    ) -> None:
        """Nothing."""

    def write_cost(self, method: SharingMethod) -> None:
        """Nothing."""

    @contextmanager
    def logged(self, config: Config, method: str, seed: int, tell: Tell) -> Iterator[None]:
        """Nothing."""
        yield

    def add(self, row: Mapping[str, Any]) -> None:
        """Nothing but the count."""
        self.rows += 1

    def keep(self, rows: int) -> None:
        """Nothing but the count."""
        self.rows = rows


def flat(scores: Scores) -> dict[str, float]:
    """Scores as the flat keys of `metrics.jsonl`."""
    row = {"loss": sum(scores.losses.values())}
    row |= {f"loss/{task}": value for task, value in scores.losses.items()}
    for task, metrics in scores.metrics.items():
        row |= {f"{task}/{name}": value for name, value in metrics.items()}
    return row

"""Progress for people: bars in a terminal, a plain line every few seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from polytask.training.progress import (
    Event,
    Finished,
    Message,
    Overall,
    Scored,
    Show,
    Started,
    Step,
)

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_SECONDS = 10.0  # between two lines about one run


@contextmanager
def display(stream: TextIO | None = None) -> Iterator[Show]:
    """Show events on a stream (standard error by default): bars if it is a terminal, else lines."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    with Bars(stream) as bars:
        yield bars


def duration(seconds: float) -> str:
    """A time as people say it: 31 s, 4 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _losses(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {loss:.3f}" for task, loss in losses.items())


class Lines:
    """Writes a line when a run starts, every few seconds while it trains, and when it ends."""

    def __init__(self, stream: TextIO, interval: float = LINE_SECONDS) -> None:
        self.stream = stream
        self.interval = interval
        self.started: dict[str, float] = {}
        self.totals: dict[str, int] = {}
        self.told: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        line = self._line(event)
        if line:
            print(line, file=self.stream, flush=True)

    def _line(self, event: Event) -> str:
        now = time.monotonic()
        match event:
            case Message(text):
                return text
            case Overall(done, total, left):
                about = f", about {duration(left)} left" if left is not None else ""
                return f"{done} of {total} runs over{about}" if done else f"{total} runs to train"
            case Started(run, total, done):
                self.started[run] = self.told[run] = now
                self.totals[run] = total
                return f"{run}: going on after step {done} of {total}" if done else ""
            case Step(run, step, losses, left):
                if now - self.told.get(run, now) < self.interval:
                    return ""
                self.told[run] = now
                about = f", {duration(left)} left" if left is not None else ""
                return f"{run}: step {step} of {self.totals[run]}, loss {_losses(losses)}{about}"
            case Finished(run, outcome):
                took = now - self.started.pop(run, now)
                return f"{run}: {outcome} after {duration(took)}"
        return ""


class Bars:
    """One bar per running run, with its tasks' losses and the time left, below one for them all."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        note = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self.bars: RichProgress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", style="cyan"),
            TextColumn("{task.fields[note]}", markup=False, table_column=note),
            console=Console(file=stream),
            expand=True,
            transient=True,
        )
        self.ids: dict[str, TaskID] = {}
        self.losses: dict[str, str] = {}
        self.scores: dict[str, str] = {}

    def __enter__(self) -> Bars:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Message(text):
                self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
            case Overall(done, total, left):
                self._set("all runs", done, total, left, "")
            case Started(run, total, done):
                self._set(run, done, total, None, "")
            case Step(run, step, losses, left):
                self.losses[run] = _losses(losses)
                self._set(run, step, None, left, self._note(run))
            case Scored(run, _, metrics):
                self.scores[run] = ", ".join(
                    f"{task} {next(iter(values.values())):.3f}" for task, values in metrics.items()
                )
            case Finished(run, _) if run in self.ids:
                self.bars.remove_task(self.ids.pop(run))

    def _note(self, run: str) -> str:
        scores = self.scores.get(run)
        return f"loss {self.losses[run]}" + (f" · val {scores}" if scores else "")

    def _set(self, name: str, done: int, total: int | None, left: float | None, note: str) -> None:
        if name not in self.ids:
            self.ids[name] = self.bars.add_task(name, total=total, left="", note="")
        self.bars.update(
            self.ids[name],
            completed=done,
            left=duration(left) if left is not None else "",
            note=note,
        )

"""Loggers: the rows of `metrics.jsonl`, handed on to tools that people already use.

One file per tool. `metrics.jsonl` stays the record: a logger that fails is told and left, and a run
that goes on first hands over the rows that a tool does not hold yet. A repeated step ends in the
same numbers, so that rows which a tool holds already need not be taken back.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.errors import MissingExtra

if TYPE_CHECKING:
    from polytask.config.models import Config


@dataclass(frozen=True)
class About:
    """The run that is logged; loggers write below its folder unless told where."""

    folder: Path
    config: Config
    method: str
    seed: int

    @property
    def name(self) -> str:
        """The run's name among those of its config."""
        return f"{self.method}/seed{self.seed}"


class Logger(ABC):
    """A run in some tool, made or found again.

    Args:
        about: the run.
        options: its entry in `train.loggers`.
    """

    @abstractmethod
    def __init__(self, about: About, options: Any) -> None: ...

    @abstractmethod
    def held(self) -> Mapping[str, int]:
        """The last step that the tool holds of each series, from before a stop."""

    @abstractmethod
    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a value to each of some series; steps ascend."""

    @abstractmethod
    def end(self, is_finished: bool) -> None:
        """Write what is left; the run may go on later where it is not finished."""


def check(config: Config) -> None:
    """Refuse loggers that are not installed.

    Raises:
        MissingExtra: with the first of them.
    """
    for i, options in enumerate(config.train.loggers):
        if not find_spec(options.name):
            raise MissingExtra(config.place("train", "loggers", i), options.name)


class Loggers:
    """The loggers of a run. `tell` hears of what goes wrong.

    Args:
        about: the run, or `None` for no loggers.
        rows: those of `metrics.jsonl` from before a stop.
    """

    def __init__(
        self,
        about: About | None = None,
        rows: Iterable[Mapping[str, Any]] = (),
        tell: Callable[[str], object] = str,
    ) -> None:
        self._open: dict[str, Logger] = {}
        self._held: dict[str, Mapping[str, int]] = {}
        self._axis = Axis()
        self._tell = tell
        if about is not None:
            for options in about.config.train.loggers:
                self._attempt(options.name, partial(self._begin, about, options))
        for row in rows:
            self.add(row)

    def _begin(self, about: About, options: Any) -> None:
        made: Logger = importlib.import_module(f"{__name__}.{options.name}").Tool(about, options)
        self._held[options.name] = dict(made.held())
        self._open[options.name] = made

    def add(self, row: Mapping[str, Any]) -> None:
        """Hand on a row, but for what a tool holds of it already."""
        step, values = self._axis.step(row), numbers(row)
        for name, logger in list(self._open.items()):
            held = self._held[name]
            new = {key: value for key, value in values.items() if held.get(key, -1) < step}
            if new:
                self._attempt(name, partial(logger.add, new, step))

    def end(self, is_finished: bool) -> None:
        """End all of them."""
        for name, logger in list(self._open.items()):
            self._attempt(name, partial(logger.end, is_finished))
        self._open.clear()

    def _attempt(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # any tool, any fault of a server: no reason to end a run
            self._open.pop(name, None)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self._tell(
                f"train.loggers: {name} failed ({reason}); the run goes on without it, and "
                "metrics.jsonl holds every row"
            )


class Axis:
    """Steps counted over all phases, where `metrics.jsonl` counts within each."""

    def __init__(self) -> None:
        self._phase = ""
        self._before = self._last = 0

    def step(self, row: Mapping[str, Any]) -> int:
        """The step of the next row."""
        if row["phase"] != self._phase or row["step"] < self._last:
            self._before += self._last
            self._phase = row["phase"]
        self._last = row["step"]
        return self._before + self._last


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by the name of their series: `val/read_print_accuracy`.

    One slash: MLflow's folders could not hold both `loss` and `loss/read_print`.
    """
    return {
        f"{row['split']}/{key.replace('/', '_')}": float(value)
        for key, value in row.items()
        if key != "step" and isinstance(value, int | float)
    }

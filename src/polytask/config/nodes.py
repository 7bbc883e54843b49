"""A config as a tree of nodes that know where they were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias

from polytask.errors import ConfigError, Fault

MAX_DEPTH = 40
DEEP = f"got values nested more than {MAX_DEPTH} deep; expected a config"

Key: TypeAlias = "tuple[str | int, ...]"


@dataclass(frozen=True)
class Mark:
    """Where a value was written: a file and its line, or a source without lines."""

    source: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source

    def at(self, key: Key) -> str:
        """The place and the key, as an error starts."""
        return " ".join(filter(None, (str(self), ".".join(map(str, key))))) or "config"


@dataclass(frozen=True)
class Node:
    """A scalar, a list of nodes or nodes by key; `size` counts its nodes, aliases expanded."""

    value: Any
    mark: Mark = field(default=Mark(), compare=False)
    size: int = field(default=1, compare=False)

    def plain(self) -> Any:
        """The value without marks."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, step: str | int) -> Node | None:
        """The node under a key or position, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list) and str(step).isdecimal() and int(step) < len(self.value):
            return self.value[int(step)]  # type: ignore[no-any-return]
        return None

    def nearest_mark(self, key: Key) -> Mark:
        """The mark of the node at `key`, or of its deepest ancestor that was written."""
        node, mark = self, self.mark
        for step in key:
            below = node.child(step)
            if below is None:
                break
            node, mark = below, below.mark
        return mark


@dataclass(frozen=True)
class Problem:
    """A fault that remembers its mark, so that the faults of a file come in its order."""

    mark: Mark
    fault: Fault

    @classmethod
    def of(cls, mark: Mark, key: Key, problem: str, hint: str = "") -> Problem:
        """The problem of one key."""
        return cls(mark, Fault(mark.at(key), problem, hint))


class Problems(list[Problem]):
    """All that is wrong with a config."""

    def add(self, mark: Mark, key: Key, problem: str, hint: str = "") -> None:
        """Tell the problem of one key."""
        self.append(Problem.of(mark, key, problem, hint))

    def raise_all(self) -> None:
        """Raise every problem in the order of the file, those of overrides last.

        Raises:
            ConfigError: if there is any.
        """
        if self:
            in_order = sorted(self, key=lambda problem: (not problem.mark.line, problem.mark.line))
            raise ConfigError([_on_one_line(problem.fault) for problem in in_order])


def _on_one_line(fault: Fault) -> Fault:
    # Keys and names may hold line breaks or what moves a terminal's cursor.
    parts = (fault.where, fault.problem, fault.hint)
    return Fault(*("".join(c if c.isprintable() else ascii(c)[1:-1] for c in p) for p in parts))


def usable(value: Any, mark: Mark, key: Key, problems: Problems) -> Node:
    """The node of a scalar; NaN, infinities and text that no file can hold are problems."""
    if isinstance(value, float) and not isfinite(value):
        problems.add(mark, key, f"got {value}; expected a finite number")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        problems.add(mark, key, f"got {value!a}; expected text without control characters")
        return Node("", mark)
    return Node(value, mark)


def from_python(values: Mapping[str, Any]) -> tuple[Node, Problems]:
    """The nodes of a Python mapping, which have no lines."""
    problems = Problems()
    return _convert(values, (), problems), problems


def _convert(value: Any, key: Key, problems: Problems) -> Node:
    if len(key) > MAX_DEPTH:
        raise ConfigError.at(Mark().at(key[:4]), DEEP)
    if isinstance(value, Mapping):
        return Node({str(k): _convert(v, (*key, str(k)), problems) for k, v in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node([_convert(v, (*key, i), problems) for i, v in enumerate(value)])
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _convert(value.tolist(), key, problems)
    if isinstance(value, Path):
        return Node(str(value))
    if value is not None and not isinstance(value, str | int | float):
        got = f"got an object of type {type(value).__name__}; expected plain values"
        problems.add(Mark(), key, got)
        return Node(None)
    return usable(value, Mark(), key, problems)

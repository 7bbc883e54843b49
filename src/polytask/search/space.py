"""What a search tries: values of a method's options, put into the config they came from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from polytask import tasks as task_kinds
from polytask.config.nodes import Problems, from_python
from polytask.config.parsing import parse
from polytask.config.rendering import show
from polytask.config.search import SearchConfig, Span, Value
from polytask.cost.of_config import streams_of
from polytask.errors import ConfigError, Fault, UserError, one_of, unknown
from polytask.sharing.build import build_method, method_class, setting_of

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry

Values: TypeAlias = dict[str, Value]


@dataclass(frozen=True)
class Space:
    """Options of one method by dotted name, and the values that each may take."""

    config: Config
    entry: MethodEntry
    dimensions: Mapping[str, Sequence[Value] | Span]

    @property
    def size(self) -> int | None:
        """How many combinations there are, `None` for infinitely many."""
        grids = [_grid(values) for values in self.dimensions.values()]
        return None if any(g is None for g in grids) else prod(len(g or ()) for g in grids)

    @property
    def first(self) -> Values:
        """One combination: the first value of every option."""
        return {name: _some(values)[0] for name, values in self.dimensions.items()}

    def grid(self) -> list[Values]:
        """All combinations, the last option varying fastest.

        Raises:
            ConfigError: there are infinitely many.
        """
        grids = []
        for name, values in self.dimensions.items():
            grid = _grid(values)
            if grid is None:
                place = self.config.place("search", "space", name)
                raise ConfigError.at(
                    place, "got no step; expected one, as sampler: grid tries every number"
                )
            grids.append(grid)
        return [
            dict(zip(self.dimensions, combination, strict=True))
            for combination in itertools.product(*grids)
        ]

    def at(self, values: Mapping[str, Value]) -> Config:
        """The config with these values, ready to compare: the method and `single`.

        Raises:
            ConfigError: the method does not take them.
        """
        options = self.entry.options.model_dump(mode="json", by_alias=True)
        for name, value in values.items():
            options = _put(options, name.split("."), value)
        node, problems = from_python(_lists(options, set(self.config.tasks)))
        found = parse(type(self.entry.options), node, (self.entry.name,), problems)
        problems.raise_all()
        assert found is not None
        entry = self.entry.model_copy(update={"options": found})
        single = [other for other in self.config.methods if other.name == "single"]
        methods = single if self.entry.name == "single" else [*single, entry]
        return self.config.model_copy(update={"methods": methods, "search": None})

    def check(self) -> None:
        """Put in every value once, beside the first one of all others, and build the network.

        Raises:
            ConfigError: with the place of every value that the method does not take.
        """
        first = self.first
        parts = _Parts(self.config)
        problems = Problems()
        for name, values in self.dimensions.items():
            node = self.config._origin.root
            mark = node.nearest_mark(("search", "space", name))
            for value in _some(values):
                try:
                    parts.build(self.at({**first, name: value}), self.entry.key)
                except UserError as error:
                    key = ("search", "space", name)
                    for fault in error.faults:
                        problems.add(mark, key, f"value {show(value)}: {fault.problem}", fault.hint)
                    break
        problems.raise_all()


class _Parts:
    """What networks of one config are built from, read once."""

    def __init__(self, config: Config) -> None:
        self.tasks = task_kinds.build(config.tasks)
        self.streams, self.stream_of = streams_of(config, self.tasks)

    def build(self, config: Config, key: str) -> None:
        """Build a method without giving any weight a value."""
        entry = config.method(key)
        with torch.device("meta"):
            build_method(config, entry, self.tasks, self.streams, self.stream_of, config.seeds[0])


def space_of(config: Config) -> Space:
    """The space that a config's `search` describes; the method's own where it names none.

    Raises:
        ConfigError: it names no method that can be searched, or values that the method refuses.
    """
    search = config.search or SearchConfig()
    untrained = {"pretrained": False, "weights": None, "init": None}
    plain = config.model_copy(update={"backbone": config.backbone.model_copy(update=untrained)})
    entry = _method(config, search)
    dimensions: Mapping[str, Sequence[Value] | Span] = search.space
    if not dimensions:
        parts = _Parts(config)
        with torch.device("meta"):
            setting = setting_of(
                plain, parts.tasks, parts.streams, parts.stream_of, config.seeds[0]
            )
            dimensions = method_class(entry).search_space(setting, entry.options)
    if not dimensions:
        raise ConfigError.at(
            config.place("search", "space"),
            f"got none, and {entry.name} has none of its own; expected values of its options.",
            f"They are {', '.join(type(entry.options).model_fields)}.",
        )
    Space(plain, entry, dimensions).check()
    return Space(config, entry, dimensions)


def _method(config: Config, search: SearchConfig) -> MethodEntry:
    others = [entry for entry in config.methods if entry.name != "single"]
    if search.method is not None:
        keys = [entry.key for entry in others]
        if search.method not in keys:
            place = config.place("search", "method")
            raise ConfigError(unknown(place, "method", search.method, keys))
        return config.method(search.method)
    if len(others) != 1:
        got = f"got none; expected {one_of(e.key for e in others)}" if others else "got none"
        hint = "" if others else "List a method besides single under methods."
        raise ConfigError(Fault(config.place("search", "method"), got, hint))
    return others[0]


def _grid(values: Sequence[Value] | Span) -> list[Value] | None:
    return values.grid() if isinstance(values, Span) else list(values)  # type: ignore[return-value]


def _some(values: Sequence[Value] | Span) -> list[Value]:
    """All values of a list, the ends of a span."""
    return [values.low, values.high] if isinstance(values, Span) else list(values)


def _put(options: Any, path: Sequence[str], value: Value) -> Any:
    """The options with a value at a path; what has no keys there gives way to what has."""
    if not path:
        return value
    step, *rest = path
    if isinstance(options, list) and step.isdecimal() and int(step) < len(options):
        items = list(options)
        items[int(step)] = _put(items[int(step)], rest, value)
        return items
    inside = options if isinstance(options, dict) else {}
    return {**inside, step: _put(inside.get(step), rest, value)}


def _lists(options: Any, tasks: set[str]) -> Any:
    """Mappings by position become lists; names of tasks are no positions."""
    if not isinstance(options, dict):
        return options
    inner = {key: _lists(value, tasks) for key, value in options.items()}
    if inner and not tasks & inner.keys() and sorted(inner) == sorted(map(str, range(len(inner)))):
        return [inner[str(i)] for i in range(len(inner))]
    return inner

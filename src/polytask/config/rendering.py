"""pydantic's errors as the faults that a user reads: place, found, expected, nearest name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any

from pydantic import BaseModel

from polytask.config.fields import Error, fields_at, names_at
from polytask.config.nodes import Key, Node, Problem
from polytask.config.scalars import scalar
from polytask.config.writing import shown
from polytask.errors import nearest, unknown

LONGEST = 60  # characters of a value in an error
MOST = 12  # names that an error lists
EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of {ge:g} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of {le:g} or less",
    "list_type": "a list",
    "model_attributes_type": "{mapping}",
    "model_type": "{mapping}",
    "none_required": "nothing",
    "path_type": "a path",
    "string_too_short": "text of {min_length} characters or more",
    "string_type": "text",
    "too_long": "a list of {max_length} or fewer",
    "too_short": "a list of {min_length} or more",
    "tuple_type": "a list",
}


def problems_of(
    errors: Iterable[Error], model: type[BaseModel], node: Node, key: Key
) -> Iterator[Problem]:
    """One problem per place; `key` is where `node` is in the config."""
    found: dict[Key, list[Error]] = {}
    for error in errors:
        if error["type"] != "default_factory_not_called":  # follows from another error
            found.setdefault(_path(error, node), []).append(error)
    for path, alternatives in found.items():
        # Of a union's alternatives, the one that has the value's shape fails further down.
        if any(len(p) > len(path) and p[: len(path)] == path for p in found):
            continue
        value = _value(node, path)
        if isinstance(value, float) and not isfinite(value):
            continue  # told where it was read
        problem, hint = _words(alternatives, model, node, path, value)
        yield Problem.of(node.nearest_mark(path), (*key, *path), problem, hint)


def show(value: Any) -> str:
    """A value as an error quotes it: text in double quotes, the rest as YAML, not too long."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else shown(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def mismatch(
    got: Any, names: Sequence[str], or_else: str = "", listing: str = ""
) -> tuple[str, str]:
    """Problem and hint of a value that is none of `names`; `listing` is the command that shows them
    when they are too many for a line."""
    hint = nearest(got, names) if isinstance(got, str) else ""
    wanted = f"one of {', '.join(names)}" if len(names) > 1 else "".join(names)
    if listing and len(names) > MOST:
        wanted = f"a name that `{listing}` shows"
    wanted = " or ".join(filter(None, (wanted, or_else)))
    return f"got {show(got)}; expected {wanted}{'.' if hint else ''}", hint


def _path(error: Error, node: Node) -> Key:
    """The key of an error, without the tags that pydantic adds for unions."""
    path: list[str | int] = []
    current: Node | None = node
    for step in error["loc"]:
        below = current.child(step) if current is not None else None
        if below is not None:
            path.append(step)
            current = below
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    if error["type"] == "union_tag_invalid" and current is not None and current.child("name"):
        path.append("name")
    return tuple(path)


def _value(node: Node, path: Key) -> Any:
    current: Node | None = node
    for step in path:
        current = current.child(step) if current is not None else None
    return None if current is None else current.plain()


def _words(
    errors: Sequence[Error], model: type[BaseModel], node: Node, path: Key, value: Any
) -> tuple[str, str]:
    error = errors[0]
    if error["type"] == "missing":
        field = fields_at(model, node, path[:-1]).get(str(path[-1]))
        return f"got nothing; expected {(field and field.description) or 'a value'}", ""
    if error["type"] == "extra_forbidden":
        fault = unknown("", "key", str(path[-1]), fields_at(model, node, path[:-1]))
        return fault.problem, fault.hint
    if error["type"] == "union_tag_not_found":
        return mismatch(value, names_at(model, path), "under name")
    if error["type"] in ("value_error", "assertion_error"):
        return f"got {show(value)}; {error['msg'].split(', ', 1)[1]}", ""
    keys = ", ".join(fields_at(model, node, path))
    return _expectation(errors, value, f"a mapping with {keys}")


def _expectation(errors: Sequence[Error], value: Any, mapping: str) -> tuple[str, str]:
    names: list[str] = []
    shapes: dict[str, None] = {}
    for error in errors:
        context = error.get("ctx", {})
        if error["type"] == "union_tag_invalid":
            names += re.findall(r"'([^']*)'", context["expected_tags"])
        elif error["type"] == "literal_error":
            names += re.findall(r"'([^']*)'", context["expected"])
        else:
            words = EXPECTED.get(error["type"], "").format(**context, mapping=mapping)
            shapes[words or error["msg"][:1].lower() + error["msg"][1:]] = None
    problem, hint = mismatch(value, names, " or ".join(shapes))
    is_quoted = isinstance(value, str) and isinstance(scalar(value), int | float)
    if not hint and is_quoted and shapes.keys() & {"a number", "a whole number", "true or false"}:
        return f"{problem}.", "Remove the quotes."
    return problem, hint

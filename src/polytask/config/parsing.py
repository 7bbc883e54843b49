"""What the parts of a config have in common: names, entries by name, and models of nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel

from polytask import registry
from polytask.config.fields import validate
from polytask.config.nodes import Key, Mark, Node, Problem, Problems
from polytask.config.overrides import OVERRIDE
from polytask.config.rendering import mismatch, problems_of, show
from polytask.errors import UserError

M = TypeVar("M", bound=BaseModel)
NAME = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class Named:
    """A task or method whose options are still to be checked.

    `name` is the task's or method's, `key` what the config calls it, `path` where it is.
    """

    name: str | None
    key: str
    node: Node
    path: Key
    has_own_options: bool


def parse(model: type[M], node: Node, key: Key, problems: Problems) -> M | None:
    """The model of a node; what is wrong goes to `problems`."""
    value, errors = validate(model, node.plain())
    problems.extend(problems_of(errors, model, node, key))
    return value


def absolute(node: Node, model: type[BaseModel]) -> Node:
    """The node with paths of overrides made absolute: they start where they are typed."""
    if not isinstance(node.value, dict):
        return node
    children = dict(node.value)
    for name, field in model.model_fields.items():
        child = children.get(name)
        is_path = field.annotation is Path or Path in get_args(field.annotation)
        if child and is_path and child.mark == OVERRIDE and isinstance(child.value, str):
            children[name] = replace(child, value=str(Path.cwd() / child.value))
    return replace(node, value=children)


def registered(
    kind: str, node: Node | None, mark: Mark, key: Key, problems: Problems
) -> str | None:
    """The name in a node, if it is one of its kind."""
    mark = node.mark if node is not None else mark
    if node is None or not isinstance(node.value, str):
        got = node.plain() if node is not None else None
        problems.add(mark, key, *mismatch(got, registry.names(kind)))
        return None
    try:
        _lookup(kind)(node.value, mark.at(key))
    except UserError as error:
        problems.extend(Problem(mark, fault) for fault in error.faults)
        return None
    return node.value


def _lookup(kind: str) -> Callable[[str, str], object]:
    if kind == "backbones":  # knows names that are no file's
        from polytask import backbones

        return backbones.find
    return lambda name, where: registry.find(kind, name, where)


def entries(root: Node, section: str, problems: Problems) -> Iterator[tuple[str, Node]]:
    """The named parts of a section."""
    node = root.child(section)
    if node is None:
        return
    if not isinstance(node.value, dict):
        problems.add(
            node.mark, (section,), f"got {show(node.plain())}; expected a mapping of names"
        )
        return
    for name, child in node.value.items():
        key = (section, name)
        if not NAME.fullmatch(name):
            got = f'got the name "{name}"; expected letters, digits, _ and -'
            problems.add(child.mark, key, got)
        if isinstance(child.value, dict):
            yield name, child
        else:
            problems.add(child.mark, key, f"got {show(child.plain())}; expected a mapping")

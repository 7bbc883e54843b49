"""`key.path=value` after a config on the command line, put into its nodes.

`tasks.NAME=null` and `data.NAME=null` leave a task or a data set out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from polytask.config.nodes import Key, Mark, Node, Problem, Problems
from polytask.config.reading import read_text
from polytask.config.rendering import show
from polytask.errors import ConfigError, nearest, one_of

OVERRIDE = Mark("(override)")
# Keys whose bare name stands for a mapping, and the dictionaries whose keys the user makes up.
NAMED = {("backbone",), ("train", "optimizer"), ("train", "schedule")}
OPEN = {"data": "data set", "tasks": "task"}


class _NoSuchKey(Exception):
    """The path of an override leads nowhere; the arguments say why."""


def apply(root: Node, overrides: Sequence[str]) -> tuple[Node, Problems]:
    """The nodes with every override put in, in order, and what is wrong with the others."""
    problems = Problems()
    for text in overrides:
        path, equals, value = text.partition("=")
        key: Key = tuple(path.strip().split("."))
        if not equals or "" in key:
            problems.add(OVERRIDE, (), f'got "{text}"; expected key.path=value')
            continue
        try:
            node, found = read_text(value, OVERRIDE, key)
            problems.extend(found)
            root = _put(root, key, node, ())
        except ConfigError as error:
            problems.extend(Problem(OVERRIDE, fault) for fault in error.faults)
        except _NoSuchKey as error:
            problems.add(OVERRIDE, key, *error.args)
    return root, problems


def _put(node: Node | None, key: Key, value: Node, above: Key) -> Node:
    """The node with `value` at `key`; `above` is where the node itself is."""
    if not key:
        return value
    step, rest = str(key[0]), key[1:]
    if node is None or node.value is None:
        node = Node({}, OVERRIDE)
    if isinstance(node.value, str):
        node = _spelled_out(node, step, above)
    below = node.child(step)
    if isinstance(node.value, list):
        if below is None:
            positions = ", ".join(map(str, range(len(node.value)))) or "none, as the list is empty"
            raise _NoSuchKey(f'got position "{step}"; expected one of {positions}')
        items = list(node.value)
        items[int(step)] = _put(below, rest, value, (*above, step))
        return replace(node, value=items)
    if not isinstance(node.value, dict):
        raise _no_keys(node, above)
    is_open = len(above) == 1 and above[0] in OPEN
    is_left_out = is_open and not rest and value.value is None
    if below is None and (rest or is_left_out) and is_open and node.value:
        known = list(node.value)
        problem = f'got no {OPEN[str(above[0])]} "{step}"; expected {one_of(known)}.'
        raise _NoSuchKey(problem, nearest(step, known))
    if is_left_out:
        return replace(node, value={k: v for k, v in node.value.items() if k != step})
    return replace(node, value={**node.value, step: _put(below, rest, value, (*above, step))})


def _spelled_out(node: Node, step: str, above: Key) -> Node:
    """A bare name as the mapping it stands for."""
    if above in NAMED:
        return replace(node, value={"name": node})
    if step == node.value and (above == ("balancing",) or above[:1] == ("methods",)):
        return replace(node, value={node.value: Node(None, node.mark)})
    raise _no_keys(node, above)


def _no_keys(node: Node, above: Key) -> _NoSuchKey:
    path = ".".join(map(str, above))
    return _NoSuchKey(f"got a key below {show(node.value)}; expected {path}=VALUE")

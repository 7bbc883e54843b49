"""Runs that come first: what each of them has in place of the config's own sections.

A method learns from one by `transfer: {pretraining: NAME}`. `data` and `train` of such a part add
to the config's own; its `tasks` and everything else stand in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from polytask import registry
from polytask.config.models import Config
from polytask.config.nodes import Node, Problem, Problems
from polytask.config.parsing import Named, entries
from polytask.config.rendering import show
from polytask.errors import unknown

ADDED = {"data": 2, "train": 1}  # how deep a part's values add to the config's
KEYS = (
    *("method", "data", "tasks", "backbone", "train", "mixing", "sampling", "norm", "image_size"),
    *("balancing", "match", "init", "on_bad_image"),
)


def pretraining(
    root: Node, check: Callable[[Node, Problems], Config | None], problems: Problems
) -> dict[str, Config]:
    """Each part's whole config, with one method of the part's name.

    Args:
        root: the config's nodes.
        check: makes a config of nodes and tells what is wrong with them.
        problems: holds the faults of what parts have in common, and hears of the others.
    """
    found = {}
    for name, node in entries(root, "pretraining", problems):
        path = ("pretraining", name)
        for key in node.value.keys() - set(KEYS):
            mark = node.value[key].mark
            problems.append(Problem(mark, unknown(mark.at((*path, key)), "key", key, KEYS)))
        if "tasks" not in node.value:
            problems.add(node.mark, (*path, "tasks"), "got nothing; expected the tasks to learn")
            continue
        own = Problems()
        made = check(_whole(root, node), own)
        problems.extend(_inside(problem, name) for problem in own if problem not in problems)
        if made is None:
            continue
        method = made.methods[-1]  # `single` stands before it where it is another
        if name in set(registry.names("sharing")) - {method.name}:
            got = f'got the name "{name}", which a method has; expected another'
            problems.add(node.mark, path, got)
        key = "single" if method.name == "single" else name
        method = method.model_copy(update={"key": key})
        found[name] = made.model_copy(update={"methods": [method]})
    return found


def _whole(root: Node, own: Node) -> Node:
    """The config's nodes with those of a part."""
    sections = {k: v for k, v in root.value.items() if k not in ("pretraining", "seeds", "search")}
    for key, node in own.value.items():
        if key in KEYS:
            sections[key] = _added(sections.get(key), node, ADDED.get(key, 0))
    method = sections.pop("method", Node("hard", own.mark))
    return replace(root, value={**sections, "methods": Node([method], method.mark)})


def _inside(problem: Problem, name: str) -> Problem:
    """The problem of a part with the whole of its key."""
    mark, fault = problem.mark, problem.fault
    key = fault.where.removeprefix(str(mark)).strip().replace("methods.0", "method", 1)
    return Problem(mark, replace(fault, where=mark.at(("pretraining", name, key))))


def _added(outer: Node | None, own: Node, depth: int) -> Node:
    """A section of the config with what a part changes in it."""
    if depth == 0 or outer is None or not isinstance(outer.value, dict):
        return own
    if not isinstance(own.value, dict):
        return own
    changed = {k: _added(outer.value.get(k), node, depth - 1) for k, node in own.value.items()}
    return replace(own, value={**outer.value, **changed})


def check_names(methods: Sequence[Named], root: Node, problems: Problems) -> None:
    """Tell which methods learn from a pretraining that there is none of."""
    section = root.child("pretraining")
    names = section.value if section is not None and isinstance(section.value, dict) else {}
    for method in methods:
        transfer = method.node.child("transfer")
        chosen = transfer.child("pretraining") if transfer is not None else None
        if chosen is None or chosen.value is None or chosen.value in names:
            continue
        where = chosen.mark.at((*method.path, "transfer", "pretraining"))
        if names:
            fault = unknown(where, "pretraining", str(chosen.value), names)
            problems.append(Problem(chosen.mark, fault))
        else:
            got = f"got {show(chosen.plain())}; expected a name in the section pretraining"
            problems.add(chosen.mark, (*method.path, "transfer", "pretraining"), got)

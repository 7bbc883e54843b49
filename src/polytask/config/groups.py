"""Groups of tasks in a method's options: lists of names, or what `polytask affinity` wrote."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from polytask.config.nodes import Key, Node, Problem, Problems
from polytask.config.overrides import OVERRIDE
from polytask.config.rendering import show
from polytask.errors import unknown

FILE = "affinity.json"
EXPECTED = "expected lists of tasks, or the folder or file that polytask affinity --out wrote"


def read_groups(
    node: Node, path: Key, folder: Path, known: Collection[str], problems: Problems
) -> Node | None:
    """The lists of a `groups` option, those of a file put in its place; `None` for wrong ones."""
    if isinstance(node.value, str):
        start = Path.cwd() if node.mark == OVERRIDE else folder
        try:
            found = _proposal(start / node.value)
        except (OSError, ValueError, LookupError, TypeError) as error:
            is_absent = isinstance(error, FileNotFoundError)
            got = "no such file" if is_absent else "a file that holds no proposal"
            problems.add(node.mark, path, f'got "{node.value}", {got}; {EXPECTED}')
            return None
        lists = [Node([Node(task, node.mark) for task in group], node.mark) for group in found]
        node = Node(lists, node.mark, node.size)
    before = len(problems)
    _check(node, path, known, problems)
    return node if len(problems) == before else None


def _proposal(path: Path) -> list[list[str]]:
    content: Any = json.loads((path / FILE if path.is_dir() else path).read_bytes())
    groups: list[list[str]] = content["groups"]
    if not all(isinstance(task, str) for group in groups for task in group):
        raise ValueError
    return groups


def _check(node: Node, path: Key, known: Collection[str], problems: Problems) -> None:
    """Tell which names are no task, or are listed twice."""
    plain = node.plain()
    if not isinstance(plain, list) or not all(isinstance(group, list) for group in plain):
        problems.add(node.mark, path, f"got {show(plain)}; {EXPECTED}")
        return
    seen: set[str] = set()
    for i, group in enumerate(plain):
        for j, task in enumerate(group):
            place = (*path, i, j)
            mark = node.nearest_mark((i, j))
            if task not in known:
                fault = unknown(mark.at(place), "task", str(task), known)
                problems.append(Problem(mark, fault))
            elif task in seen:
                problems.add(mark, place, f"got {task} again; expected it in one group")
            else:
                seen.add(task)

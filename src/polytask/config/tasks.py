"""The data sets and tasks of a config."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from polytask import registry
from polytask.config.models import TaskOptions, UncheckedTask
from polytask.config.nodes import Key, Node, Problems
from polytask.config.parsing import Named, absolute, entries, parse, registered
from polytask.config.rendering import mismatch

if TYPE_CHECKING:
    from polytask.data.source import Source


def sources(root: Node, problems: Problems) -> dict[str, Source | None]:
    """The data sets; `None` where one is wrong."""
    from polytask.data.source import Source

    found: dict[str, Source | None] = {}
    for name, node in entries(root, "data", problems):
        key = ("data", name)
        kind = registered("sources", node.child("source"), node.mark, (*key, "source"), problems)
        if kind is not None:
            model: type[Source] = registry.load("sources", kind, Source)
            found[name] = parse(model, absolute(node, model), key, problems)
    return found


def tasks(root: Node, problems: Problems) -> list[Named]:
    """The tasks, with their kinds and data sets checked."""
    listed = root.child("data")
    data = list(listed.value) if listed is not None and isinstance(listed.value, dict) else []
    found = []
    for name, node in entries(root, "tasks", problems):
        path = ("tasks", name)
        kind = registered("tasks", node.child("kind"), node.mark, (*path, "kind"), problems)
        _check_data(node, (*path, "data"), data, problems)
        own = node.value.keys() - TaskOptions.model_fields.keys()
        found.append(Named(kind, name, node, path, bool(own)))
    section = root.child("tasks")
    if section is None or section.value == {}:
        problems.add(root.mark, ("tasks",), "got nothing; expected one task or more")
    return found


def _check_data(node: Node, key: Key, data: list[str], problems: Problems) -> None:
    used, classes = node.child("data"), node.child("classes")
    if used is None or used.value is None:
        if classes is None or classes.value is None:
            problem, _ = mismatch(None, data, "" if data else "the name of a data set")
            hint = "Without data, classes are needed; then the task serves `polytask cost`."
            problems.add(node.mark, key, f"{problem}.", hint)
    elif isinstance(used.plain(), str | int | float) and str(used.value) not in data:
        or_else = "" if data else "no name, as there are no data sets"
        problems.add(used.mark, key, *mismatch(used.value, data, or_else))


def options(task: Named, problems: Problems, is_checked: bool) -> TaskOptions | None:
    """The options of a task: its kind's when `is_checked`, else as they were written."""
    if task.name is None:
        # The kind is told already; the rest is checked with any.
        node = replace(task.node, value={**task.node.value, "kind": Node("")})
        parse(UncheckedTask, node, task.path, problems)
        return None
    model: type[TaskOptions] = UncheckedTask
    if is_checked:
        from torch.nn import ModuleDict

        from polytask.tasks.task import Task

        if hasattr(ModuleDict, task.key):  # networks keep their heads by task
            problem = f'got the name "{task.key}", which torch keeps for itself; expected another.'
            problems.add(task.node.mark, task.path, problem, f'Try "{task.key}_".')
        model = registry.load("tasks", task.name, Task).Options
    return parse(model, task.node, task.path, problems)

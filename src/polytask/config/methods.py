"""The methods of a config and its balancer: bare names, or names with options."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from polytask import registry
from polytask.config.groups import read_groups
from polytask.config.models import MethodEntry, MethodOptions, UncheckedOptions
from polytask.config.nodes import Key, Node, Problem, Problems
from polytask.config.parsing import Named, absolute, parse, registered
from polytask.config.rendering import show
from polytask.config.transfer import TransferOptions
from polytask.errors import ConfigError, unknown

KEY = re.compile(r"\w[\w.-]{0,59}")
DEFAULT_METHODS = [Node("single"), Node("hard")]


def methods(root: Node, problems: Problems) -> list[Named]:
    """The methods, their names and keys checked, with `single` in front where it is missing."""
    listed = root.child("methods") or Node(DEFAULT_METHODS)
    if not isinstance(listed.value, list):
        got = f"got {show(listed.plain())}; expected a list of methods"
        problems.add(listed.mark, ("methods",), got)
        return []
    found: list[Named] = []
    first: dict[str, Node] = {}
    for i, node in enumerate(listed.value):
        method = one_name("sharing", node, ("methods", i), problems)
        if method is None:
            continue
        if method.key in first:
            problem = f'got "{method.key}" again; expected a key of its own.'
            hint = f"Name one of them: {{{method.name}: {{as: {method.key}_2}}}}."
            problems.add(node.mark, method.path, problem, hint)
        first.setdefault(method.key, node)
        found.append(method)
    if not any(method.name == "single" for method in found):
        found.insert(0, Named("single", "single", Node({}), ("methods",), False))
    return found


def one_name(kind: str, node: Node, path: Key, problems: Problems) -> Named | None:
    """A bare name, or a name with its options: `hard`, `{hard: {filter: true}}`."""
    options = Node({}, node.mark)
    named = node
    if isinstance(node.value, dict) and len(node.value) == 1:
        ((name, inside),) = node.value.items()
        path = (*path, name)
        named = Node(name, inside.mark)
        if inside.value is not None:
            options = inside
    elif isinstance(node.value, dict):
        got = f"got the keys {', '.join(node.value)}" if node.value else "got no key"
        problem = f"{got}; expected one name with its options, such as {{NAME: {{KEY: VALUE}}}}"
        problems.add(node.mark, path, problem)
        return None
    if registered(kind, named, node.mark, path, problems) is None:
        return None
    if not isinstance(options.value, dict):
        got = f"got {show(options.plain())}; expected a mapping of options"
        problems.add(options.mark, path, got)
        return None
    own = dict(options.value)
    alias = own.pop("as", None) if kind == "sharing" else None
    key = _key(alias, named.value, path, problems) if alias is not None else named.value
    return Named(named.value, key, replace(options, value=own), path, bool(own))


def _key(alias: Node, name: str, path: Key, problems: Problems) -> str:
    key = alias.plain()
    others = set(registry.names("sharing")) - {name}
    if not isinstance(key, str) or not KEY.fullmatch(key):
        expected = "a name of at most 60 letters, digits, _, - and ."
    elif key in others:
        expected = "a name that no method has"
    elif name == "single" and key != name:
        expected = "no other name for the baseline of every comparison"
    else:
        return key
    problems.add(alias.mark, (*path, "as"), f"got {show(key)}; expected {expected}")
    return f"{name}@{alias.mark}"  # unlike any other


def default_entry(name: str, keys: list[str]) -> MethodEntry:
    """A method by its bare name; `keys` are those that the config lists.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in registry.names("sharing"):
        known = dict.fromkeys([*keys, *registry.names("sharing")])
        raise ConfigError(unknown("--method", "method", name, known))
    problems = Problems()
    found = entry(Named(name, name, Node({}), ("methods", name), False), problems, True)
    problems.raise_all()
    assert found is not None
    return found


def entry(
    method: Named,
    problems: Problems,
    is_checked: bool,
    task_names: Collection[str] = (),
    folder: Path = Path(),
) -> MethodEntry | None:
    """The entry of a method, with the options of its class when `is_checked`.

    `folder` is where its paths start.
    """
    model: type[MethodOptions] = UncheckedOptions
    assert method.name is not None
    if is_checked:
        from polytask.sharing.method import SharingMethod

        model = registry.load("sharing", method.name, SharingMethod).Options
    node = method.node
    groups = node.child("groups")
    if groups is not None and groups.value is not None:
        listed = read_groups(groups, (*method.path, "groups"), folder, task_names, problems)
        if listed is None:
            return None
        node = replace(node, value={**node.value, "groups": listed})
    transfer = node.child("transfer")
    if transfer is not None:
        node = replace(node, value={**node.value, "transfer": absolute(transfer, TransferOptions)})
    options = parse(model, node, method.path, problems)
    if options is None:
        return None
    own = method.node.child("balancing")
    if own is not None and own.value is not None:
        chosen = one_name("balancing", own, (*method.path, "balancing"), problems)
        if chosen is None:
            return None
        balancing = balancer_entry(chosen, problems, is_checked, task_names)
        options = options.model_copy(update={"balancing": balancing})
    return MethodEntry(name=method.name, key=method.key, options=options)


def balancer(root: Node, problems: Problems) -> Named | None:
    """The balancer, if the config names one that exists."""
    return one_name("balancing", root.child("balancing") or Node("equal"), ("balancing",), problems)


def balancer_entry(
    named: Named, problems: Problems, is_checked: bool, task_names: Collection[str]
) -> str | dict[str, Any] | None:
    """The balancer's name, with its options where it has any; some go by the names of tasks."""
    assert named.name is not None
    model: type[BaseModel] = UncheckedOptions
    if is_checked:
        from polytask.balancing import Balancer

        own = registry.load("balancing", named.name, Balancer).Options
        model = own
        for key in own.per_task:
            _names_of_tasks(named, key, task_names, problems)
    options = parse(model, named.node, named.path, problems)
    if options is None:
        return None
    values = options.model_dump(mode="json", by_alias=True)
    return {named.name: values} if values else named.name


def _names_of_tasks(named: Named, key: str, known: Collection[str], problems: Problems) -> None:
    """Tell which keys of an option by task are no task."""
    given = named.node.child(key)
    if given is None or not isinstance(given.value, dict):
        return
    for name, node in given.value.items():
        if name not in known:
            path = (*named.path, key, name)
            problems.append(Problem(node.mark, unknown(node.mark.at(path), "task", name, known)))

"""Checking a config: all faults at once, with the names and options of what it mentions.

Names come from the text of the modules, so that the first pass imports no torch; the options of
tasks, methods and balancers are those of their classes, which the second pass imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.config import methods, tasks
from polytask.config.finding import Document, find
from polytask.config.models import BackboneConfig, Config, Origin
from polytask.config.nodes import Node, Problems
from polytask.config.overrides import apply
from polytask.config.parsing import absolute, parse, registered
from polytask.config.pretraining import check_names, pretraining
from polytask.config.rendering import show
from polytask.errors import ConfigError

# A section with every line commented out is as if it were not there.
MAY_BE_EMPTY = ("data", "tasks", "methods", "backbone", "train", "search", "pretraining")
APART = ("data", "tasks", "methods", "balancing", "pretraining")  # read piece by piece


def read_config(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, options: bool = True
) -> Config:
    """Read and check a config: a YAML file, the name of a bundled example, or a mapping.

    `overrides` are `key.path=value`, the value in YAML; paths in them start at the working
    directory. With `options=False` the options of tasks, methods and balancers are kept as they
    were written, and no torch is loaded.

    Raises:
        ConfigError: with every fault of the file and the overrides.
    """
    document = find(source)
    if not isinstance(document.root.value, dict):
        got = "an empty file" if document.root.value is None else show(document.root.plain())
        raise ConfigError.at(
            str(document.root.mark) or document.shown,
            f"got {got}; expected a mapping with data, tasks and methods.",
            "`polytask init FILE` writes one to start from.",
        )
    root, found = apply(document.root, overrides)
    written = {
        key: node
        for key, node in root.value.items()
        if node.value is not None or key not in MAY_BE_EMPTY
    }
    problems = Problems([*document.problems, *found])
    config = _check(replace(root, value=written), document, problems, options)
    problems.raise_all()
    assert config is not None
    return config


def _check(root: Node, document: Document, problems: Problems, options: bool) -> Config | None:
    data = tasks.sources(root, problems)
    named_tasks = tasks.tasks(root, problems)
    named_methods = methods.methods(root, problems)
    balancer = methods.balancer(root, problems)
    config = parse(Config, _rest(root, document, problems), (), problems)
    # Options beyond the common ones have faults of their own to tell; without any, a faulty config
    # is told at once, before torch is imported.
    named = [*named_tasks, *named_methods, *([balancer] if balancer else [])]
    is_checked = options and (not problems or any(part.has_own_options for part in named))
    names = [task.key for task in named_tasks]
    sections = {
        "data": data,
        "tasks": {t.key: tasks.options(t, problems, is_checked) for t in named_tasks},
        "methods": [
            methods.entry(m, problems, is_checked, names, document.folder) for m in named_methods
        ],
        "balancing": balancer and methods.balancer_entry(balancer, problems, is_checked, names),
    }
    sections["pretraining"] = pretraining(
        root, lambda whole, own: _check(whole, document, own, options), problems
    )
    check_names(named_methods, root, problems)
    if config is None:
        return None
    config = config.model_copy(update=sections)
    config._origin = Origin(root)
    return config


def _rest(root: Node, document: Document, problems: Problems) -> Node:
    """What is left when the sections that are read apart are out, with its defaults."""
    rest = {k: v for k, v in root.value.items() if k not in APART}
    backbone = rest.get("backbone")
    if backbone is not None:
        rest["backbone"] = absolute(backbone, BackboneConfig)
        name = backbone if isinstance(backbone.value, str) else backbone.child("name")
        if name is not None and isinstance(name.value, str):
            registered("backbones", name, name.mark, ("backbone", "name"), problems)
    rest = absolute(Node(rest), Config).value
    rest.setdefault("name", Node(document.name, root.mark))
    folder = rest.get("folder", Node(""))
    if isinstance(folder.value, str):
        rest["folder"] = replace(folder, value=str(document.folder / folder.value))
    return replace(root, value=rest)

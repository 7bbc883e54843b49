"""Write the reference pages from the code: `python docs/reference.py`.

Every name that a config may use, with its module's docstring and the options of its model, and
every key of a config. A test compares the pages with what this file would write.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from polytask import registry
from polytask.balancing import Balancer, BalancerOptions
from polytask.config.augment import Augment
from polytask.config.models import BackboneConfig, Config, MethodOptions, TaskOptions
from polytask.config.train import TrainConfig
from polytask.data.source import Source
from polytask.sharing.method import SharingMethod
from polytask.sharing.trunk import TrunkOptions
from polytask.tasks.task import Task

FOLDER = Path(__file__).parent
PARTS = {"": ("sampling",), "train": ("optimizer", "schedule", "early_stop", "loggers")}
HEAD = "<!-- Written by docs/reference.py; change the docstrings instead. -->\n\n"
KINDS: dict[str, tuple[str, type, type[BaseModel] | None]] = {
    "Sharing methods": ("sharing", SharingMethod, MethodOptions),
    "Balancers": ("balancing", Balancer, BalancerOptions),
    "Tasks": ("tasks", Task, TaskOptions),
    "Sources": ("sources", Source, Source),
    "Backbones": ("backbones", object, None),
}


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    return {"names.md": HEAD + "\n".join(_names()), "config.md": HEAD + "\n".join(_config())}


def _names() -> Iterator[str]:
    yield "# Every name that a config may use\n"
    for title, (kind, base, common) in KINDS.items():
        yield f"## {title}\n"
        if kind == "sharing":
            yield "Every method takes, besides `as`, which names it in results:\n"
            yield from _table(MethodOptions, without=BaseModel)
            yield "Every trunk method (those in `sharing/trunk`) also takes:\n"
            yield from _table(TrunkOptions, without=MethodOptions)
        seen: dict[str, list[registry.Entry]] = {}
        for entry in registry.entries(kind).values():
            if entry.module.startswith("polytask."):
                seen.setdefault(entry.module, []).append(entry)
        for module, entries in seen.items():
            yield f"### {', '.join(f'`{entry.name}`' for entry in entries)}\n"
            yield _shown(importlib.import_module(module).__doc__ or "")
            if len(entries) > 1:
                yield from (f"- `{entry.name}`: {entry.summary}" for entry in entries)
                yield ""
            if common is not None:
                yield from _table(
                    _options(kind, entries[0].name, base), without=_common(common, module)
                )


def _common(common: type[BaseModel], module: str) -> type[BaseModel]:
    return TrunkOptions if module.startswith("polytask.sharing.trunk.") else common


def _options(kind: str, name: str, base: type) -> type[BaseModel]:
    found: Any = registry.load(kind, name, base)
    model: type[BaseModel] = found if kind == "sources" else found.Options
    return model


def _config() -> Iterator[str]:
    yield "# Every key of a config\n"
    yield "How the keys work together is shown in [Your own data](data.md).\n"
    sections = {
        "": Config,
        "data.NAME": Source,
        "data.NAME.augment": Augment,
        "tasks.NAME": TaskOptions,
        "backbone": BackboneConfig,
        "train": TrainConfig,
    }
    for key, model in sections.items():
        yield f"## {f'`{key}`' if key else 'Top level'}\n"
        yield from _table(model, without=BaseModel)
        for field in PARTS.get(key, ()):
            for part in _models(model.model_fields[field]):
                where = f"{key}.{field}" if key else field
                yield f"### `{where}`: {part.__name__.lower()}\n"
                yield inspect.cleandoc(part.__doc__ or "") + "\n"
                yield from _table(part, without=BaseModel)
    yield "What a task, source, method or balancer adds is told by [its name](names.md)."


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    """The models that a value may be of, whatever annotations and unions stand around them."""

    def inside(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for part in get_args(annotation):
            yield from inside(part)

    return list(inside(field.annotation))


def _table(model: type[BaseModel], without: type[BaseModel]) -> Iterator[str]:
    fields = {
        name: field
        for name, field in model.model_fields.items()
        if name not in without.model_fields or field.default != without.model_fields[name].default
    }
    fields = {n: f for n, f in fields.items() if n not in ("source", "name") or f.description}
    if fields:
        yield "| key | default | |\n| --- | --- | --- |"
        for name, field in fields.items():
            cells = (f"`{field.alias or name}`", _default(field), _cell(field.description or ""))
            yield f"| {' | '.join(cells)} |"
        yield ""


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.default_factory is not None:
        return "depends"
    if value is PydanticUndefined:
        return "needed"
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:.4g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _shown(docstring: str) -> str:
    """A docstring as Markdown, where `*` is a product and `<` no tag."""
    return docstring.strip().replace("*", "\\*").replace("<", "&lt;") + "\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text.rstrip() + "\n", encoding="utf-8")

"""A config as YAML text that reads back to the same config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from polytask.config.models import Config
from polytask.config.scalars import FLOAT, HEX, INFINITE, INT, OCTAL
from polytask.config.train import NO_RESULT

WIDTH = 96


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as something else, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


for _pattern in (INT, OCTAL, HEX, FLOAT, INFINITE):
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _pattern, list("-+.0123456789"))


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only double quotes keep every kind of line break, and on one line.
    style = '"' if re.search("[\n\r\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(value: Any, flow: bool | None = None) -> str:
    """YAML text of plain data; `flow=True` for one line, `None` for one line per innermost part."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=flow,
        sort_keys=False,
        allow_unicode=True,
        width=10**9 if flow else WIDTH,
    )


def shown(value: Any) -> str:
    """A value on one line, as it would be written in a config."""
    return to_yaml(value, flow=True).removesuffix("...\n").strip()


def differences(old: Config, new: Config) -> list[str]:
    """The keys whose values differ, in the order of a config."""
    before, after = dict(flat(_comparable(old))), dict(flat(_comparable(new)))
    return [
        f"{key}: {_or_absent(before, key)} -> {_or_absent(after, key)}"
        for key in {**before, **after}
        if _or_absent(before, key) != _or_absent(after, key)
    ]


def _comparable(config: Config) -> dict[str, Any]:
    values = config.data_dict()
    methods = {entry.key: {entry.name: entry.options} for entry in config.methods}
    train = {key: value for key, value in values["train"].items() if key not in NO_RESULT}
    return {**values, "methods": methods, "train": train, "name": None, "folder": None}


def flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every value inside plain data or a model, by its dotted key, as a config writes it."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, shown(value)


def _or_absent(values: Mapping[str, str], key: str) -> str:
    return values.get(key, "absent")

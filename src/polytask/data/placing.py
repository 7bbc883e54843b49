"""Faults of data that name a key of the config get the file and line where it was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from polytask.errors import Fault

if TYPE_CHECKING:
    from polytask.config.models import Config


def placed(config: Config, faults: Iterable[Fault]) -> list[Fault]:
    """The faults; `data.pets.path` becomes `shop.yaml:7 data.pets.path`."""
    return [replace(fault, where=_placed(config, fault.where)) for fault in faults]


def _placed(config: Config, where: str) -> str:
    section, *steps = where.split(".")
    named = {"data": list(config.data), "tasks": list(config.tasks)}.get(section, [])
    return config.place(section, *steps) if steps and steps[0] in named else where

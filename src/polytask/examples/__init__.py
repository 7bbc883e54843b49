"""Configs that come with polytask, each headed by source, expected result, time, exact command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """A bundled config; `summary` and `source` are read from the comments at its head."""

    name: str
    summary: str
    source: str
    path: Path


def bundled() -> list[Example]:
    """Every bundled config, by name."""
    return [_read(path) for path in sorted(Path(__file__).parent.glob("*.yaml"))]


def _read(path: Path) -> Example:
    head = re.match(r"(?:#.*\n)*", path.read_text("utf-8"))
    paragraphs = re.sub(r"^# ?", "", head.group() if head else "", flags=re.M).split("\n\n")
    facts = dict(re.findall(r"^(\w+): +(.+(?:\n +.+)*)", paragraphs[-1], flags=re.M))
    return Example(path.stem, _line(paragraphs[0]), _line(facts.get("Source", "")), path)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()

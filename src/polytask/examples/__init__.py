"""Bundled configs, each headed by its source, expected result, time and exact command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """A bundled config; `header` is the comment it starts with."""

    name: str
    summary: str
    source: str
    header: str
    path: str


@cache
def bundled() -> list[Example]:
    """The bundled configs by name."""
    return [_example(path) for path in sorted(FOLDER.glob("*.yaml"))]


def _example(path: Path) -> Example:
    text = path.read_text("utf-8")
    lines = re.match(r"(#.*\n)*", text).group().splitlines()  # type: ignore[union-attr]
    header = "\n".join(line.removeprefix("#").strip() for line in lines)
    summary = re.split(r"\n\n|\n(?=Source:)", header)[0].replace("\n", " ")
    source = re.search(r"^Source: (.+?)(?=\n\w+: |\n\n|\Z)", header, re.M | re.S)
    return Example(
        path.stem,
        summary,
        source.group(1).replace("\n", " ") if source else "",
        header,
        str(path),
    )

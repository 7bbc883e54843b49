"""What a config is read from: a file, a bundled example, or a Python mapping."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.config.nodes import Node, Problems, from_python
from polytask.config.reading import read_file
from polytask.errors import ConfigError, nearest
from polytask.examples import bundled

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Document:
    """A config as it was found; `shown` is how errors name the whole of it."""

    root: Node
    problems: Problems
    name: str
    folder: Path
    shown: str


def find(source: str | Path | Mapping[str, Any]) -> Document:
    """Read a file, the bundled example of that name, or a mapping.

    Raises:
        ConfigError: there is no such file or example, or it is not YAML.
    """
    if isinstance(source, Mapping):
        root, problems = from_python(source)
        return Document(root, problems, "config", Path.cwd(), "config")
    path = Path(source)
    examples = {example.name: example.path for example in bundled()}
    if not path.is_file() and str(source) in examples:
        # Nobody keeps data beside a bundled example, so its paths start where the user is.
        return _read(examples[str(source)], examples[str(source)].name, Path.cwd())
    if not path.is_file():
        raise ConfigError.at(str(source), *_missing(path, list(examples)))
    return _read(path, str(source), path.resolve().parent)


def _read(path: Path, shown: str, folder: Path) -> Document:
    root, problems = read_file(path, shown)
    return Document(root, problems, path.stem, folder, shown)


def _missing(path: Path, examples: list[str]) -> tuple[str, str]:
    if path.is_dir():
        inside = [p.name for p in sorted(path.iterdir()) if p.suffix in SUFFIXES]
        hint = f"It holds {', '.join(inside[:3])}." if inside else ""
        return "got a folder; expected a YAML file or the name of an example.", hint
    folder = path.parent
    files = [p.name for p in folder.iterdir() if p.suffix in SUFFIXES] if folder.is_dir() else []
    similar = difflib.get_close_matches(path.name, files, n=1)
    problem = f"got no such file; expected a YAML file or an example ({', '.join(examples)})."
    if similar:
        return problem, f'Did you mean "{folder / similar[0]}"?'
    return problem, nearest(path.stem, examples)

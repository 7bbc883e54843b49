"""Names to code: a folder of one-idea files is its own registry.

A file `sharing/trunk/multi_exit.py` is the method `multi_exit`; a file that serves several names
says so in a literal `NAMES = {"resnet18": "summary", …}`. Names, summaries and sources are read
from the text of the files, so that listing and checking a config import no torch; a module is
imported when its name is used. Third parties add names through entry points `polytask.<kind>`.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from types import ModuleType
from typing import Any

from polytask.errors import UserError, unknown

PACKAGE = Path(__file__).parent
FOLDERS = {
    "sharing": ("sharing/trunk", "sharing/columns", "sharing/experts"),
    "backbones": ("backbones",),
    "tasks": ("tasks", "tasks/pretext"),
    "balancing": ("balancing",),
    "sources": ("data/sources",),
}
WORDS = {
    "sharing": "method",
    "backbones": "backbone",
    "tasks": "task kind",
    "balancing": "balancer",
    "sources": "source",
}


@dataclass(frozen=True)
class Entry:
    """A name in a registry; `module` is imported by `load`."""

    name: str
    summary: str
    source: str
    module: str
    family: str = ""
    attribute: str = ""


def _literal(text: str, name: str) -> Any:
    """What a module sets a name to, read from that statement alone: a whole file takes long."""
    found = re.search(rf"^{name}\b.*\n(?:[ )\]}}].*\n|\n)*", text, re.M)
    if found is None:
        return None
    (statement,) = ast.parse(found.group()).body
    assert isinstance(statement, ast.Assign | ast.AnnAssign)
    return None if statement.value is None else ast.literal_eval(statement.value)


def _docstring(text: str) -> str:
    """A module's docstring; where it is not plain, the whole file is parsed."""
    found = re.match(r'"""([^\\]*?)"""\n', text)
    return cleandoc(found.group(1)) if found else ast.get_docstring(ast.parse(text)) or ""


def _first_sentence(text: str) -> str:
    line = text.strip().split("\n\n")[0].replace("\n", " ").strip()
    return re.sub(r"\s+", " ", line)


def _source(docstring: str) -> str:
    found = re.search(r"^Source: (.+?)(?:\n\n|\nDiffers|\Z)", docstring, re.M | re.S)
    return re.sub(r"\s+", " ", found.group(1)).strip() if found else ""


def _entries_of(path: Path, module: str, family: str) -> list[Entry]:
    text = path.read_text(encoding="utf-8")
    docstring = _docstring(text)
    names = _literal(text, "NAMES")
    if names is None:
        names = {path.stem: _first_sentence(docstring)}
    return [Entry(n, s, _source(docstring), module, family) for n, s in names.items()]


@cache
def entries(kind: str) -> dict[str, Entry]:
    """Every name of a kind (`sharing`, `backbones`, `tasks`, `balancing`, `sources`)."""
    found: dict[str, Entry] = {}
    for folder in FOLDERS[kind]:
        root = PACKAGE / folder
        skip = _literal((root / "__init__.py").read_text("utf-8"), "NOT_NAMES") or ()
        for path in sorted(root.glob("*.py")):
            if path.stem.startswith("_") or path.stem in skip:
                continue
            module = "polytask." + folder.replace("/", ".") + "." + path.stem
            family = folder.rsplit("/", 1)[-1]
            for entry in _entries_of(path, module, family):
                found[entry.name] = entry
    for point in entry_points(group=f"polytask.{kind}"):
        if point.name not in found:
            found[point.name] = _third_party(kind, point)
    return found


def _third_party(kind: str, point: EntryPoint) -> Entry:
    try:
        spec = find_spec(point.module)
        text = Path(spec.origin).read_text("utf-8") if spec is not None and spec.origin else ""
        tree = ast.parse(text)
    except (ImportError, OSError, SyntaxError, ValueError):
        tree = ast.Module([], [])  # told when a config names it
    docstring = ast.get_docstring(tree) or ""
    family = _family_imported(kind, tree)
    attribute = point.attr or ""
    return Entry(
        point.name, _first_sentence(docstring), _source(docstring), point.module, family, attribute
    )


def _family_imported(kind: str, tree: ast.Module) -> str:
    """The family whose package a module takes its base class from: built-in names lie in it."""
    homes = {"polytask." + folder.replace("/", "."): folder for folder in FOLDERS[kind]}
    taken = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    found = [homes[module] for module in taken if module in homes]
    return found[0].rsplit("/", 1)[-1] if found else ""


def _import(entry: Entry) -> ModuleType:
    try:
        return importlib.import_module(entry.module)
    except (ImportError, SyntaxError) as error:
        if entry.module.startswith("polytask."):
            raise
        raise UserError.at(
            entry.name,
            f"its module {entry.module} cannot be imported: {error}.",
            "Repair or remove the package that brings it.",
        ) from error


def names(kind: str) -> list[str]:
    """The valid names of a kind."""
    return list(entries(kind))


def find(kind: str, name: str, where: str | None = None) -> Entry:
    """The entry of a name; a `UserError` with the nearest valid name when there is none."""
    table = entries(kind)
    if name not in table:
        word = WORDS[kind]
        raise UserError(unknown(where or word, word, name, table))
    return table[name]


def module(kind: str, name: str) -> ModuleType:
    """Import the module behind a name."""
    return _import(find(kind, name))


def load(kind: str, name: str, base: type) -> Any:
    """Import and return the one subclass of `base` that the module of `name` defines."""
    entry = find(kind, name)
    home = _import(entry)
    if entry.attribute:
        if not hasattr(home, entry.attribute):
            raise UserError.at(name, f"its module {entry.module} has no {entry.attribute}.")
        return getattr(home, entry.attribute)
    found = [
        value
        for value in vars(home).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == entry.module
    ]
    named = [value for value in found if getattr(value, "name", None) == name]
    (chosen,) = named or found
    return chosen

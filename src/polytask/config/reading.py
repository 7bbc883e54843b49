"""YAML 1.2 text as nodes with their lines.

Only plain data is read: no tags, no merge keys, one document. The nodes are built from the parser's
events, because the loaders of PyYAML resolve YAML 1.1 and drop repeated keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from polytask.config.nodes import DEEP, MAX_DEPTH, Key, Mark, Node, Problems, usable
from polytask.config.scalars import scalar
from polytask.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_NODES = 20_000


def read_file(path: Path, shown: str) -> tuple[Node, Problems]:
    """Read a YAML file; `shown` is how errors name it.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not YAML.
    """
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise ConfigError.at(shown, f"cannot be read: {error.strerror}") from error
    if raw is None:
        raise ConfigError.at(shown, f"got more than {MAX_BYTES} bytes; expected a YAML config")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = Mark(shown, raw.count(b"\n", 0, error.start) + 1)
        raise ConfigError.at(
            str(mark), "got bytes that are not UTF-8; expected a text file"
        ) from error
    return read_text(text, Mark(shown, 1))


def read_text(text: str, mark: Mark, key: Key = ()) -> tuple[Node, Problems]:
    """Read YAML text; a mark without a line is given to every node (an override).

    Raises:
        ConfigError: the text is not YAML, or too large once aliases are expanded.
    """
    builder = _Builder(text, mark, key)
    try:
        return builder.document(), builder.problems
    except yaml.MarkedYAMLError as error:
        line, problem = _syntax(error)
        raise ConfigError.at(builder.mark_at(line).at(key), problem) from error
    except yaml.reader.ReaderError as error:
        where = builder.mark_at(text.count("\n", 0, error.position)).at(key)
        raise ConfigError.at(
            where, f"got the control character {chr(error.character)!r}; expected text"
        ) from error


class _Builder:
    """Builds nodes from the parser's events, counting nodes so that aliases cannot explode."""

    def __init__(self, text: str, mark: Mark, key: Key) -> None:
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.mark = mark
        self.key = key
        self.anchors: dict[str, Node | None] = {}
        self.problems = Problems()
        self.count = 0

    def mark_of(self, event: Any) -> Mark:
        return self.mark_at(event.start_mark.line)

    def mark_at(self, line: int) -> Mark:
        return replace(self.mark, line=self.mark.line + line) if self.mark.line else self.mark

    def document(self) -> Node:
        root = Node(None, self.mark)
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    where = self.mark_of(event).at(self.key)
                    raise ConfigError.at(where, "got a second document; expected one")
                root = self.node(next(self.events), self.key)
        return root

    def node(self, event: Any, key: Key) -> Node:
        mark = self.mark_of(event)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, mark, key)
        self.spend(1, mark)
        if len(key) > MAX_DEPTH + len(self.key):
            raise ConfigError.at(str(mark), DEEP)
        if event.tag is not None:
            self.problems.add(mark, key, f"got the tag {_tag(event.tag)}; expected a plain value")
        if event.anchor:
            self.anchors[event.anchor] = None  # an alias inside its own anchor finds it open
        if isinstance(event, yaml.MappingStartEvent):
            built = self.mapping(mark, key)
        elif isinstance(event, yaml.SequenceStartEvent):
            built = self.sequence(mark, key)
        else:
            value = scalar(event.value) if event.style is None else event.value
            built = usable(value, mark, key, self.problems)
        if event.anchor:
            self.anchors[event.anchor] = built
        return built

    def mapping(self, mark: Mark, key: Key) -> Node:
        children: dict[str, Node] = {}
        size = 1
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            at = self.mark_of(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise ConfigError.at(at.at(key), "got a key that is no text; expected key: value")
            name = event.value
            child = self.node(next(self.events), (*key, name))
            size += child.size
            if name in children:
                first = children[name].mark
                again = f"got the key again (first on line {first.line}); expected it once"
                self.problems.add(at, (*key, name), again)
            else:
                children[name] = replace(child, mark=at)
        return Node(children, mark, size)

    def sequence(self, mark: Mark, key: Key) -> Node:
        children: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            children.append(self.node(event, (*key, len(children))))
        return Node(children, mark, 1 + sum(child.size for child in children))

    def alias(self, event: Any, mark: Mark, key: Key) -> Node:
        target = self.anchors.get(event.anchor)
        if target is None:
            inside = event.anchor in self.anchors
            problem = f"the alias *{event.anchor} " + (
                "holds itself" if inside else "has no anchor before it"
            )
            raise ConfigError.at(mark.at(key), problem)
        self.spend(target.size, mark)
        return replace(target, mark=mark)

    def spend(self, nodes: int, mark: Mark) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            raise ConfigError.at(
                str(mark), f"got more than {MAX_NODES} values, aliases expanded; expected a config"
            )


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


COMPLAINTS = {
    r"character '\\t'": "got a tab; expected spaces for indentation",
    r"mapping values are not allowed": 'got an unexpected ":"; expected one "key: value" a line, '
    "keys in one column (text that holds a colon needs quotes)",
    r"expected <block end>": "got an indentation that fits no line above; expected the keys of a "
    "mapping, or the items of a list, in one column",
    r"could not find expected ':'": 'got a line without ":"; expected "key: value"',
    r"unexpected end of stream": "got a quote that is never closed; expected a closing quote",
}


def _syntax(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """The line to mend, and the parser's complaint in the words of someone who writes configs."""
    problem = str(error.problem or error.context)
    problem = problem.replace("the node content", "a value").replace("'<stream end>'", "the end")
    found = error.problem_mark or error.context_mark
    opened = error.context_mark or found
    assert found is not None  # the scanner and the parser mark all they raise
    assert opened is not None
    for pattern, words in COMPLAINTS.items():
        if re.search(pattern, problem):
            is_far = "quote" in words or "without" in words  # noticed long after the line to mend
            return (opened if is_far else found).line, words
    inside = f" (in what opens on line {opened.line + 1})" if opened.line != found.line else ""
    return found.line, f"is not valid YAML: {problem}{inside}"

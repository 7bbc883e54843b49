"""Plain scalars by the core schema of YAML 1.2.

Source: YAML Ain't Markup Language, version 1.2.2, §10.3.2.
"""

from __future__ import annotations

import re

NULL = {"", "~", "null", "Null", "NULL"}
BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INT = re.compile(r"[-+]?[0-9]+")
OCTAL = re.compile(r"0o[0-7]+")
HEX = re.compile(r"0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
LONGEST = 300  # characters of an integer; a longer one would not even fit a float


def scalar(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar: `yes` is text, `1e-3` a number and `010` ten."""
    if text in NULL:
        return None
    if text in BOOL:
        return BOOL[text]
    if len(text) <= LONGEST:
        for pattern, base in ((INT, 10), (OCTAL, 8), (HEX, 16)):
            if pattern.fullmatch(text):
                return int(text[2:] if base != 10 else text, base)
    if FLOAT.fullmatch(text):
        return float(text)
    if INFINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text

"""JSON as people read it: a key a line, and lists of plain values on one."""

from __future__ import annotations

import json
import re
from typing import Any

# A bracket at the end or the start of a line is never part of a text, which holds no line breaks.
PLAIN_LIST = re.compile(r"\[\n\s+([^][{}]*?)\n\s*\]")


def json_text(document: Any) -> str:
    """One JSON document, the same wherever it is printed or written."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return PLAIN_LIST.sub(lambda found: "[" + re.sub(r"\n\s+", " ", found[1]) + "]", text)

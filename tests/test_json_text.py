"""JSON as it is printed and written: the same document, lists of plain values on one line."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from polytask.json_text import json_text

plain = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["[", "[\n", "]"])
documents = st.recursive(
    plain, lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=3)
)


@given(documents)
def test_it_reads_back(document):
    assert json.loads(json_text(document)) == document


def test_a_mask_takes_a_line_a_row():
    text = json_text({"mask": [[0, 1, 1], [0, 0, 1]], "name": "a [b"})
    assert text.splitlines()[1:5] == ['  "mask": [', "    [0, 1, 1],", "    [0, 0, 1]", "  ],"]

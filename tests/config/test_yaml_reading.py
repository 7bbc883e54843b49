"""YAML text as nodes: lines, repeated keys, aliases, limits, and one clear line for each fault."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.config.nodes import Mark
from polytask.config.reading import MAX_BYTES, MAX_NODES, read_file, read_text
from polytask.errors import ConfigError

START = Mark("shop.yaml", 1)


def read(text):
    node, problems = read_text(text, START)
    assert problems == []
    return node


def told(text):
    """The faults of a text, whether they stop the reading or not."""
    try:
        _, problems = read_text(text, START)
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return [str(problem.fault) for problem in problems]


def test_every_value_knows_its_line():
    node = read("a:\n  b: 1\n\n  c: [x,\n      y]\nd:\n- e\n- f: 2\n")
    lines = {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 4,
        ("a", "c", 1): 5,
        ("d", 0): 7,
        ("d", 1, "f"): 8,
        ("a", "gone"): 1,  # what was not written is where its parent is
    }
    assert {key: node.nearest_mark(key).line for key in lines} == lines


def test_quotes_and_blocks_keep_text():
    text = "a: '1'\nb: \"yes\"\nc: |\n  2\nd: >-\n  true\n"
    assert read(text).plain() == {"a": "1", "b": "yes", "c": "2\n", "d": "true"}


def test_keys_are_text():
    assert read("1: a\ntrue: b\n~: c\n").plain() == {"1": "a", "true": "b", "~": "c"}


def test_aliases_share_values():
    assert read("a: &x {b: [1, 2]}\nc: *x\n").plain() == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


def test_merge_keys_are_plain_keys():
    assert read("a: &x {b: 1}\nc: {<<: *x}\n").plain()["c"] == {"<<": {"b": 1}}


@given(st.integers(0, 8), st.integers(0, 5))
def test_a_repeated_key_is_told_with_both_lines_at_any_depth(depth, between):
    lines = ["  " * d + f"k{d}:" for d in range(depth)]
    indent = "  " * depth
    lines += [f"{indent}x: 1", *(f"{indent}y{i}: 2" for i in range(between)), f"{indent}x: 3"]
    (fault,) = told("\n".join(lines))
    key = ".".join([*(f"k{d}" for d in range(depth)), "x"])
    assert fault.startswith(f"shop.yaml:{depth + between + 2} {key}: ")
    assert f"line {depth + 1}" in fault


def test_a_repeated_key_in_a_list_and_in_flow_style():
    faults = told("a:\n- {b: 1, b: 2}\n- {c: {d: 1,\n   d: 2}}\n")
    assert [fault.split(": ")[0] for fault in faults] == [
        "shop.yaml:2 a.0.b",
        "shop.yaml:4 a.1.c.d",
    ]


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("a: 1\n\tb: 2", 2, "tab"),
        ("a:\n\t- b", 2, "tab"),
        ("a: b: c", 1, '":"'),
        ("a:\n   b: 1\n  c: 2", 3, "indentation"),
        ("a: 1\nfoo\nb: 2", 2, 'without ":"'),
        ("a: 'x\nb: 2", 1, "never closed"),
        ("a: {x: 1\nb: 2", 2, "opens on line 1"),
        ("a: [1, 2", 1, "','"),
        ("a: @x", 1, "'@'"),
        ("a: 1\nb: \x07", 2, "'\\x07'"),
        ("a: 1\nb: *gone", 2, "*gone has no anchor"),
        ("a: &x [1, *x]", 1, "*x holds itself"),
        ("a: 1\n---\nb: 1", 2, "second document"),
        ("? [a]: b\n: c", 1, "no text"),
        ("a: .nan", 1, "nan"),
        ("a: 1\nb: -.inf", 2, "-inf"),
        ("a: 1e999", 1, "inf"),
        ('a: "\\0"', 1, "control"),
        ('a: "\\ud800"', 1, "control"),
    ],
)
def test_text_that_is_no_config_gives_one_line(text, line, found):
    (fault,) = told(text)
    assert fault.startswith(f"shop.yaml:{line}")
    assert fault[len(f"shop.yaml:{line}")] in ": "
    assert found in fault
    assert "\n" not in fault


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!set", "!own", "!!str", "!"])
@pytest.mark.parametrize("value", ["[echo]", "{x: 1}", "text"])
def test_tags_are_refused(tag, value):
    (fault,) = told(f"a: 1\nb: {tag} {value}")
    assert fault.startswith("shop.yaml:2 b: ")
    assert tag in fault


def test_aliases_cannot_explode():
    """Ten levels of ten aliases would be ten thousand million nodes."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    start = time.process_time()
    (fault,) = told("\n".join(levels))
    assert f"more than {MAX_NODES} values" in fault
    assert time.process_time() - start < 1


@pytest.mark.parametrize("text", ["[" * 5000, "a: [\n" * 5000, "- " * 5000 + "a", "{a: " * 5000])
def test_deep_nesting_is_refused(text):
    (fault,) = told(text)
    assert "nested" in fault


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"huge\.yaml: got more than 1000000 bytes"):
        read_file(path, "huge.yaml")


def test_a_long_list_is_refused_at_its_limit():
    start = time.process_time()
    (fault,) = told("a: [" + "1," * 100_000 + "]")
    assert f"more than {MAX_NODES} values" in fault
    assert time.process_time() - start < 5


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"^shop\.yaml:2: .*UTF-8"):
        read_file(path, "shop.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_bytes("\ufeffa: é".encode())
    assert read_file(path, "shop.yaml")[0].plain() == {"a": "é"}

"""Plain scalars against the examples of YAML 1.2.2, §10.3.2, and against PyYAML where it agrees."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polytask.config.scalars import scalar


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "Yes", "OFF", "y", "n", "tRUE", "nULL"])
def test_words_of_yaml_1_1_are_text(text):
    assert scalar(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2E+05", -2e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("0.", 0.0),
        ("-0.0", -0.0),
        ("12e03", 12000.0),
    ],
)
def test_numbers_with_an_exponent_or_a_point_are_floats(text, value):
    assert isinstance(scalar(text), float)
    assert scalar(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("+12", 12), ("-19", -19), ("0o14", 12), ("0x3A", 58), ("0", 0), ("007", 7)],
)
def test_integers_are_decimal_unless_marked(text, value):
    assert isinstance(scalar(text), int)
    assert scalar(text) == value


@pytest.mark.parametrize("text", ["1_000", "1:30", "0b11", "+", "-", ".", "e3", "1e", "0o8", "0xg"])
def test_what_only_yaml_1_1_or_nobody_reads_as_a_number_is_text(text):
    assert scalar(text) == text


def test_the_rest_of_the_core_schema():
    assert [scalar(t) for t in ("", "~", "null", "Null", "NULL")] == [None] * 5
    assert [scalar(t) for t in ("true", "True", "TRUE")] == [True] * 3
    assert [scalar(t) for t in ("false", "False", "FALSE")] == [False] * 3
    assert [scalar(t) for t in (".inf", "-.Inf", "+.INF")] == [math.inf, -math.inf, math.inf]
    assert math.isnan(scalar(".nan"))


def test_a_number_of_a_million_digits_takes_no_time():
    assert scalar("9" * 1_000_000) == math.inf


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**64), 2**64))
def test_numbers_as_python_or_pyyaml_write_them(number):
    for text in (repr(number), yaml.safe_dump(number).split("\n")[0]):
        assert scalar(text) == number
        assert type(scalar(text)) is type(number)

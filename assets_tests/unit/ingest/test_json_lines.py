"""JSON as it is read: exact, and with a reason where it isn't JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.json_lines import at, fields, lines, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=5))
def test_lines__say_what_the_records_said(records: list[Any]) -> None:
    """By Python's own reader."""
    written = lines(parse(json.dumps(records)))
    assert [json.loads(line) for line in written.decode().split("\n")[:-1]] == records


@pytest.mark.parametrize("number", ["0.10", "1e400", "-0", "12345678901234567890.123456789", "1E-7"])
def test_fields__keep_the_digits_of_numbers(number: str) -> None:
    assert fields(f'{{"price": {number}}}', ["price"]) == [number]
    assert lines(parse(f"[{number}]")) == f"{number}\n".encode()


def test_fields__are_texts_by_paths() -> None:
    line = '{"a": {"b": [1.50, {"c": null}], "d": true}, "e": null, "f.g": "dotted", "f": {"g": "nested"}, "h": ""}'
    paths = ["a.b", "a.d", "e", "missing", "a.d.x", "f.g", "h"]
    assert fields(line, paths) == ['[1.50, {"c": null}]', "true", None, None, None, "dotted", ""]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "it is not an object"),
        ('{"a": 1, "a": 2}', "the member a more than once"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1', "Expecting"),
        ("", "Expecting"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
    ids=["array", "twice", "nan", "infinity", "cut", "empty", "deep"],
)
def test_fields__say_why_a_line_has_none(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fields(text, ["a"])


def test_at__finds_nothing_where_there_is_nothing() -> None:
    document = parse('{"data": {"items": [1], "none": null}}')
    assert at(document, "data.items") == ["1"]
    assert at(document, "") == document
    assert [at(document, path) for path in ("data.none.x", "data.items.x", "x")] == [None, None, None]
    assert not math.isnan(float(at(document, "data.items")[0]))

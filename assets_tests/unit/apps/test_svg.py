"""Small pictures: their bars add up, their labels keep apart, and no text of the data becomes markup."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.apps.charts.svg import bars, line, short, sparkline

NAMESPACE = re.compile(r"<div class=\"only-wide\">(<svg.*?</svg>)</div>", re.DOTALL)
VALUES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=40)


def wide(text: str) -> ElementTree.Element:
    found = NAMESPACE.search(text)
    assert found
    return ElementTree.fromstring(found[1])


@given(VALUES)
def test_bars__are_as_tall_as_their_values_and_stack(values: list[tuple[int, int]]) -> None:
    series = {"one": [one for one, _ in values], "other": [other for _, other in values]}
    picture = wide(bars([str(place) for place in range(len(values))], series, "what"))
    groups = picture.findall("g")
    assert len(groups) == len(values)
    height_of_one = None
    for group, pair in zip(groups, values, strict=True):
        drawn = [(float(rect.attrib["y"]), float(rect.attrib["height"])) for rect in group.findall("rect")]
        assert len(drawn) == sum(value > 0 for value in pair)
        for (_, height), value in zip(drawn, [value for value in pair if value], strict=True):
            if height > 20:
                height_of_one = height_of_one or height / value
                assert height / value == pytest.approx(height_of_one, rel=0.02)
        if len(drawn) == 2:
            (low, _), (top, height) = drawn
            assert top + height == pytest.approx(low, abs=0.8), "the second lies on the first"
        assert all(y >= 9 for y, _ in drawn), "within the picture"


@given(st.integers(1, 400))
def test_bars__labels_keep_apart(count: int) -> None:
    labels = [f"2024-01-{place:03}" for place in range(count)]
    picture = wide(bars(labels, {"one": [1.0] * count}, "what"))
    places = [float(text.attrib["x"]) for text in picture.findall("text") if text.attrib["class"] == "middle"]
    assert places
    assert all(after - before > 10 * 6.7 for before, after in pairwise(places))


def test_pictures__escape_texts() -> None:
    hostile = "<script>\"'&\u202e"
    for made in (
        bars([hostile], {hostile: [1.0], "other": [2.0]}, hostile),
        line([hostile, "b"], [1.0, 2.0], hostile),
        sparkline([1.0, 2.0], hostile),
    ):
        assert "<script" not in made
        assert "&lt;script&gt;" in made
        assert "\u202e" not in made


def test_line_and_sparkline__of_nothing_that_moves_are_drawn() -> None:
    assert "<polyline" in line(["a"], [0.0], "what")
    assert "<polyline" in sparkline([3.0, 3.0, 3.0], "what")
    assert sparkline([3.0], "what") == ""


def test_short__has_a_unit() -> None:
    values = (0, 0.25, 12, 999, 1234, 5_000_000, 2.5e9, -1500)
    assert [short(value) for value in values] == ["0", "0.25", "12", "999", "1.23k", "5M", "2.5bn", "-1.5k"]

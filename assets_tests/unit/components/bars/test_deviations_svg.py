"""The picture of deviations shows each bin at its height, and each value is in its bin."""

from __future__ import annotations

import math
import re
from collections import Counter
from xml.etree import ElementTree

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.components.bars.deviations_svg import deviations_svg
from lakehouse.components.bars.figures import _bin

COUNTS = st.integers(0, 10**6)
FLOOR, HEIGHT = 210.0, 180.0


def drawn(svg: str, attribute: str, value: str) -> list[str]:
    return [each.get("d", "") for each in ElementTree.fromstring(svg).iter() if each.get(attribute) == value]


@given(st.lists(COUNTS, min_size=1, max_size=81), st.lists(COUNTS, max_size=60))
def test_deviations_svg__draws_each_bin_at_its_height(prices: list[int], shares: list[int]) -> None:
    svg = deviations_svg(1234, {"open": prices, "close": [0] * len(prices)}, 60.0, shares, 1.5)
    texts = [each.text for each in ElementTree.fromstring(svg).iter() if each.text and each.text.strip()]
    assert {"1,234 sessions: prices against the other series", "open", "close", "-60", "60", "0.5", "1.5"} <= {*texts}

    line, _ = drawn(svg, "stroke", "#4f43dd")
    steps = [FLOOR - float(y) for y in re.findall(r"V([\d.]+)H", line)]
    assert len(steps) == len(prices)
    shown = [(count, step) for count, step in zip(prices, steps, strict=True) if count]
    assert all(step == 0 for count, step in zip(prices, steps, strict=True) if not count)
    # On a scale of logarithms: half a session, which is nothing, is at the floor.
    top = max(math.ceil(math.log10(max(prices, default=0) or 1)), 1)
    for count, step in shown:
        assert step == pytest.approx(HEIGHT * math.log(2 * count) / math.log(2 * 10**top), abs=0.06)

    (columns,) = drawn(svg, "fill", "#9aa5ce")
    heights = [FLOOR - float(y) for y in re.findall(r"M[\d.]+ 210V([\d.]+)h", columns)]
    of_shares = [count for count in shares if count]
    assert len(heights) == len(of_shares)
    if of_shares:
        assert heights == pytest.approx([count * max(heights) / max(of_shares) for count in of_shares], abs=0.11)


def test_deviations_svg__nothing_compared_by_a_field_is_drawn_as_nothing() -> None:
    svg = deviations_svg(1, {"open": [0] * 81}, 60.0, [0] * 60, 1.5)
    assert drawn(svg, "fill", "#9aa5ce") == [""]


@given(
    st.lists(st.floats(-100, 100, allow_nan=False), max_size=50), st.sampled_from([(-60.0, 60.0, 81), (0.0, 1.5, 60)])
)
def test_bin__is_where_numpys_histogram_counts_a_value(values: list[float], scale: tuple[float, float, int]) -> None:
    least, most, bins = scale
    clipped = np.clip(values, least, most)
    # Where bins meet, a rounded bound decides.
    edges = np.linspace(least, most, bins + 1)
    clear = [value for value in clipped if abs(value - edges[1:-1]).min() > 1e-9]
    listed = ", ".join(f"({value!r})::DOUBLE" for value in map(float, clear))
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT {_bin('value', least, most, bins)} FROM (SELECT unnest([{listed}]) AS value)"
        )
        counted = Counter(place for (place,) in rows.fetchall())
    expected, _ = np.histogram(clear, bins=bins, range=(least, most))
    assert [counted[place] for place in range(bins)] == expected.tolist()

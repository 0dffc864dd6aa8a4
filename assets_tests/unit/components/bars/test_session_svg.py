"""The picture of a session shows each bin and hour in proportion."""

from __future__ import annotations

import re
from datetime import date
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.components.bars.session_svg import session_svg

DAY = date(2024, 3, 26)
COUNTS = st.integers(0, 10**7)
FLOOR = 210.0


def heights(svg: str, colour: str) -> list[float]:
    """The heights of the bars of a colour, in pixels."""
    (path,) = [each.get("d", "") for each in ElementTree.fromstring(svg).iter() if each.get("fill") == colour]
    return [FLOOR - float(top) for top in re.findall(r"M[\d.]+ 210V([\d.]+)h", path)]


@given(
    st.lists(COUNTS, max_size=41),
    st.lists(st.tuples(st.integers(0, 23), COUNTS, COUNTS), max_size=24),
    st.sampled_from(["Europe/Berlin", "<zone> & more"]),
)
def test_session_svg__draws_what_isnt_zero_in_proportion(
    changes: list[int], hours: list[tuple[int, int, int]], zone: str
) -> None:
    svg = session_svg(DAY, changes, 10.0, hours, zone)
    texts = [each.text for each in ElementTree.fromstring(svg).iter() if each.text and each.text.strip()]
    assert f"{DAY}: change of {sum(changes):,} instruments" in texts
    assert f"hour, {zone}" in texts
    for counts, colour in ((changes, "#4f43dd"), ([bars for _, bars, _ in hours], "#9aa5ce")):
        drawn, shown = heights(svg, colour), [count for count in counts if count]
        assert len(drawn) == len(shown)
        if shown:
            # The axis ends at most a fifth above the greatest count, or at two.
            assert 180 / 1.25 - 0.1 <= max(drawn) <= 180.1 or max(shown) == 1
            largest = max(drawn) / max(shown)
            assert drawn == pytest.approx([count * largest for count in shown], abs=0.11)

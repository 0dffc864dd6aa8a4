"""The way to an instrument's last close, over splits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.apps.dashboard.pages.instruments import of_one_basis

CLOSES = st.floats(1, 1000)
FACTORS = st.sampled_from([0.1, 0.5, 1.0, 2.0, 4.0])


def test_of_one_basis__a_split_is_no_fall() -> None:
    assert of_one_basis([40.0, 44.0, 11.0, 12.0], [1.0, 1.0, 4.0, 1.0]) == [10.0, 11.0, 11.0, 12.0]


@given(st.lists(st.tuples(CLOSES, FACTORS), max_size=8))
def test_of_one_basis__a_change_is_that_of_what_a_share_became(sessions: list[tuple[float, float]]) -> None:
    closes, factors = [close for close, _ in sessions], [factor for _, factor in sessions]
    adjusted = of_one_basis(closes, factors)
    assert adjusted[-1:] == closes[-1:]
    for place in range(1, len(sessions)):
        change = closes[place] * factors[place] / closes[place - 1]
        assert adjusted[place] / adjusted[place - 1] == pytest.approx(change)

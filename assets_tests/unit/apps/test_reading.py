"""Bins of days, and how long ago a moment was."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.apps.dashboard.answer import Asked, UnknownValue
from lakehouse.apps.dashboard.reading import age, bins

DAYS = st.lists(st.dates(date(1990, 1, 1), date(2030, 12, 31)), min_size=1, max_size=60)


@given(DAYS, st.integers(1, 60))
def test_bins__keep_the_order_and_are_as_few_as_wanted(days: list[date], most: int) -> None:
    found = bins(days, most)
    assert set(found) == set(days)
    assert all(begin <= day for day, begin in found.items())
    ordered = [found[day] for day in sorted(days)]
    assert ordered == sorted(ordered)
    years = {day.year for day in days}
    assert len(set(found.values())) <= max(most, len(years))
    if len(set(days)) <= most:
        assert all(day == begin for day, begin in found.items()), "no coarser than needed"


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=5), "5 days ago"),
        (timedelta(seconds=-5), "0 s ago"),
    ],
)
def test_age__has_the_largest_unit(before: timedelta, words: str) -> None:
    now = datetime(2024, 3, 28, 12, tzinfo=UTC)
    assert age(now - before, now) == words
    assert age((now - before).replace(tzinfo=None), now) == words
    assert age(None, now) == "never"


def test_asked__refuses_what_it_cannot_use() -> None:
    asked = Asked({"day": "2024-02-30", "number": "٣", "choice": "c", "empty": " "})
    for read in (lambda: asked.day("day"), lambda: asked.number("number"), lambda: asked.chosen("choice", ["a", "b"])):
        with pytest.raises(UnknownValue, match=r"day=|number=|choice"):
            read()
    assert asked.text("empty") is None
    assert asked.chosen("other", ["a", "b"], "b") == "b"

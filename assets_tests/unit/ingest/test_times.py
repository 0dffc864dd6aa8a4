"""Times of rows: offsets, the hour that comes twice, the hour that doesn't come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lakehouse.ingest.row_format import RowTime
from lakehouse.ingest.times import moments

BERLIN = RowTime(columns=("ts",), format="%Y-%m-%d %H:%M", zone="Europe/Berlin")
SERIES = [pl.col("symbol")]


def told(time: RowTime, *texts: str, symbols: list[str] | None = None) -> list[datetime | str | None]:
    """Each text's moment, or what is wrong with it."""
    frame = pl.DataFrame({"ts": list(texts), "symbol": symbols or ["A"] * len(texts)})
    return [
        "twice" if twice else "skipped" if skipped else label
        for label, twice, skipped in moments(frame, time, SERIES).iter_rows()
    ]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_offset_in_the_text_counts_whatever_the_zone() -> None:
    time = RowTime(columns=("ts",), format="%Y-%m-%d %H:%M:%S%z", zone="America/New_York")
    assert told(time, "2024-03-08 09:30:00-05:00", "2024-03-08 15:30:00+0100", "2024-03-08 09:30:00") == [
        utc("2024-03-08 14:30"), utc("2024-03-08 14:30"), None,
    ]  # fmt: skip


def test_a_text_in_utc_under_another_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="ends in Z, which is UTC, but `zone` says America/New_York"):
        RowTime(columns=("ts",), format="%Y-%m-%dT%H:%M:%SZ", zone="America/New_York")
    with pytest.raises(ValidationError, match="says no offset"):
        RowTime(columns=("ts",), format="%Y-%m-%d %H:%M %Z")
    for offset, zone in (("+00:00", "America/New_York"), (" UTC", "Europe/Berlin"), ("+0900", "UTC")):
        with pytest.raises(ValidationError, match="Read an offset by %z"):
            RowTime(columns=("ts",), format=f"%Y-%m-%d %H:%M:%S{offset}", zone=zone)
    for form in ("%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%d %H:%M GMT", "%d-%H%M", "%Y-%m-%dT%H:%M:%S%.f"):
        assert RowTime(columns=("ts",), format=form).zone == "UTC"


def test_the_order_of_rows_tells_the_hour_that_comes_twice_apart() -> None:
    texts = ("01:59", "02:10", "02:20", "02:10", "02:20", "03:00")
    found = told(BERLIN, *(f"2024-10-27 {text}" for text in texts))
    moments_found = [utc(f"2024-10-{text}") for text in
                     ("26 23:59", "27 00:10", "27 00:20", "27 01:10", "27 01:20", "27 02:00")]  # fmt: skip
    assert found == moments_found
    # Newest first.
    assert told(BERLIN, *(f"2024-10-27 {text}" for text in reversed(texts))) == moments_found[::-1]


def test_each_series_has_an_order_of_its_own() -> None:
    texts = [f"2024-10-27 {clock}" for clock in ("02:10", "02:10", "02:40", "02:40", "02:10", "02:10")]
    found = told(BERLIN, *texts, symbols=["A", "B"] * 3)
    assert found == [utc(f"2024-10-27 {clock}") for clock in ("00:10", "00:10", "00:40", "00:40", "01:10", "01:10")]


@pytest.mark.parametrize(
    "clocks",
    [["01:50", "02:10", "03:10"], ["02:10", "02:20"], ["02:10", "02:10", "02:10"], ["02:30", "02:10", "02:05"]],
)
def test_where_the_order_does_not_tell_the_rows_are_refused(clocks: list[str]) -> None:
    found = told(BERLIN, "2024-10-27 00:00", *(f"2024-10-27 {clock}" for clock in clocks), "2024-10-27 04:00")
    inside = [each for each, clock in zip(found[1:-1], clocks, strict=True) if clock.startswith("02")]
    assert inside == ["twice"] * len(inside)
    assert "twice" not in (found[0], found[-1])


def test_an_hour_that_does_not_come_is_refused_as_such() -> None:
    assert told(BERLIN, "2024-03-31 01:59", "2024-03-31 02:30", "2024-03-31 03:00", "31.3.2024") == [
        utc("2024-03-31 00:59"), "skipped", utc("2024-03-31 01:00"), None,
    ]  # fmt: skip


@given(
    zone=st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo", "America/St_Johns"]
    ),
    day=st.datetimes(datetime(2015, 1, 1), datetime(2026, 1, 1)),
    minutes=st.sampled_from([1, 5, 15, 30]),
    newest_first=st.booleans(),
)
def test_every_minute_of_a_day_is_read_as_it_was_written(
    zone: str, day: datetime, minutes: int, newest_first: bool
) -> None:
    """A market around the clock, whose file has the local time of each bar of two days."""
    start = day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    starts = [start + timedelta(minutes=minutes * number) for number in range(2 * 24 * 60 // minutes)]
    if newest_first:
        starts.reverse()
    texts = [moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") for moment in starts]
    found = told(RowTime(columns=("ts",), format="%Y-%m-%d %H:%M", zone=zone), *texts)
    # At the ends of the file one pass of the hour may be cut off.
    cut = {texts[0][:13], texts[-1][:13], texts[1][:13], texts[-2][:13]}
    wrong = [(text, got) for text, got, moment in zip(texts, found, starts, strict=True) if got != moment]
    assert all(got == "twice" and text[:13] in cut for text, got in wrong)

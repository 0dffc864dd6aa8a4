"""Sessions whose bars end early, over calendars and intervals, held against a plain computation."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from statistics import median
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.calendars import CALENDARS
from assets_tests.support.whole_sessions import is_whole
from lakehouse.domains.market.bars import rules
from lakehouse.domains.market.bars.ending import early_ends
from lakehouse.domains.market.calendar import build_sessions
from lakehouse.lake.engine import connect

FIRST, LAST = date(2020, 11, 2), date(2020, 12, 31)
"""Thanksgiving's and Christmas's half-days are in it."""
INTERVALS = {"1s": 1, "1min": 60, "5min": 300, "1h": 3600, "1d": 86400}
HOUR = timedelta(hours=1)
BAR_COLUMNS = {
    **dict.fromkeys(("instrument_id", "symbol", "name", "instrument_type", "currency", "segment"), pl.String),
    "session": pl.Date,
    "start_at": pl.Datetime("us", "UTC"),
    "end_at": pl.Datetime("us", "UTC"),
    **dict.fromkeys(("open", "high", "low", "close", "vwap"), pl.Float64),
    **dict.fromkeys(("volume", "trades"), pl.Int64),
    **dict.fromkeys(("is_traded", "is_adjusted"), pl.Boolean),
    "published_at": pl.Datetime("us", "UTC"),
}


class Hours(NamedTuple):
    """A session with its hours."""

    session: date
    open_at: datetime
    close_at: datetime


class Day(NamedTuple):
    """What an instrument did in a session: how many bars, and the end of the last one."""

    hours: Hours
    bars: int
    last_end_at: datetime
    is_complete: bool | None = True


@cache
def sessions_of(calendar: str) -> list[Hours]:
    frame = build_sessions(CALENDARS[calendar], FIRST).filter(pl.col("session") <= LAST)
    return [Hours(*row) for row in frame.select("session", "open_at", "close_at").iter_rows()]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as made:
        yield made


# The second opinion


def finding(days: list[Day], interval_s: int) -> str | None:
    """What is to be said of the last of an instrument's days, by the twenty before."""
    *before, today = days
    before = before[-20:]

    def length(day: Day) -> float:
        return max((day.hours.close_at - day.hours.open_at).total_seconds(), interval_s)

    def silence(day: Day) -> float:
        return max((day.hours.close_at - day.last_end_at).total_seconds(), 0) / length(day)

    def density(day: Day) -> float:
        return day.bars * interval_s / length(day)

    if today.is_complete is False:
        return None
    if today.is_complete is None:
        return "ends early"
    if len(before) < 5 or (usual := median(map(density, before))) < 0.5:
        return None
    excess = max(silence(today) - sorted(map(silence, before), reverse=True)[len(before) // 5 - 1], 0)
    chance = (1 - min(usual, 1)) ** (excess * length(today) / interval_s)
    if excess >= 0.05 and chance < 0.01:
        return "ends early"
    return "few bars" if density(today) < usual / 2 else None


# Days by the calendar


def day_of(hours: Hours, interval_s: int, share: float, density: float) -> Day | None:
    """A session that is traded up to a share of it; every so many intervals have a bar."""
    length = (hours.close_at - hours.open_at).total_seconds()
    intervals = max(round(length * share / interval_s), 0)
    bars = min(math.ceil(intervals * density), intervals)
    if not bars:
        return None
    return Day(hours, bars, hours.open_at + timedelta(seconds=interval_s * intervals))


def found_by_sql(
    connection: duckdb.DuckDBPyConnection, series: dict[str, list[Day]], interval_s: int
) -> dict[tuple[str, date], str]:
    rows = [
        {
            **dict.fromkeys(("instrument_id", "symbol"), name),
            "currency": "EUR",
            "session": day.hours.session,
            "bar_count": day.bars,
            "turnover": 1.0,
            "last_bar_at": day.last_end_at - timedelta(seconds=interval_s),
            "is_complete": day.is_complete,
        }
        for name, days in series.items()
        for day in days
    ]
    hours = {day.hours for days in series.values() for day in days}
    connection.register("daily", pl.DataFrame(rows, schema_overrides={"is_complete": pl.Boolean}).to_arrow())
    connection.register("hours", pl.DataFrame(list(hours), schema=Hours._fields, orient="row").to_arrow())
    query = f"SELECT instrument_id, session, what FROM ({early_ends('daily', 'hours', interval_s)})"
    return {(name, session): what for name, session, what in connection.execute(query).fetchall()}


@given(
    calendar=st.sampled_from(list(CALENDARS)),
    interval=st.sampled_from(list(INTERVALS)),
    density=st.sampled_from([0.05, 0.4, 0.6, 0.9, 1.0]),
    cuts=st.lists(st.sampled_from([1.0, 1.0, 1.0, 0.97, 0.9, 0.8, 0.5, 0.3, 0.05]), min_size=1, max_size=26),
    known=st.sampled_from([True, None, False]),
)
def test_early_ends__says_what_a_plain_computation_says(
    calendar: str,
    interval: str,
    density: float,
    cuts: list[float],
    known: bool | None,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    interval_s = INTERVALS[interval]
    made = [
        day_of(hours, interval_s, share, density) for hours, share in zip(sessions_of(calendar), cuts, strict=False)
    ]
    days = [day for day in made if day is not None]
    if not days:
        return
    days[-1] = days[-1]._replace(is_complete=known)
    found = found_by_sql(connection, {"A": days}, interval_s)
    wanted = {
        ("A", day.hours.session): what
        for number, day in enumerate(days)
        if (what := finding(days[: number + 1], interval_s)) is not None
    }
    assert found == wanted


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("interval", INTERVALS)
def test_early_ends__is_quiet_about_whole_sessions_and_half_days(
    calendar: str, interval: str, connection: duckdb.DuckDBPyConnection
) -> None:
    interval_s = INTERVALS[interval]
    made = [day_of(hours, interval_s, 1.0, 1.0) for hours in sessions_of(calendar)]
    days = [day or Day(hours, 1, hours.close_at) for day, hours in zip(made, sessions_of(calendar), strict=True)]
    assert found_by_sql(connection, {"A": days}, interval_s) == {}


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("interval", ["1s", "1min", "5min", "1h"])
def test_early_ends__finds_a_session_that_stops_at_its_first_third(
    calendar: str, interval: str, connection: duckdb.DuckDBPyConnection
) -> None:
    interval_s, hours = INTERVALS[interval], sessions_of(calendar)
    cut = {hours[8].session: 0.32, hours[30].session: 0.32}
    days = [day_of(each, interval_s, cut.get(each.session, 1.0), 1.0) for each in hours]
    found = found_by_sql(connection, {"A": [day for day in days if day is not None]}, interval_s)
    assert found == {("A", session): "ends early" for session in cut}


def test_early_ends__leaves_out_instruments_that_trade_now_and_then(connection: duckdb.DuckDBPyConnection) -> None:
    draw = random.Random(1)
    hours = sessions_of("XETR")
    thin = [day for each in hours if (day := day_of(each, 60, draw.choice((1.0, 0.5, 0.2)), 0.1)) is not None]
    assert found_by_sql(connection, {"THIN": thin}, 60) == {}


def test_early_ends__gets_used_to_a_weekly_early_close(connection: duckdb.DuckDBPyConnection) -> None:
    """Currencies close at 22:00 UTC on Fridays, two hours before a calendar of whole days says so."""
    days = [day_of(hours, 60, 22 / 24 if hours.session.weekday() == 4 else 1.0, 1.0) for hours in sessions_of("24/5")]
    found = found_by_sql(connection, {"EURUSD": [day for day in days if day is not None]}, 60)
    assert found == {}


def test_early_ends__finds_a_session_with_a_hole(connection: duckdb.DuckDBPyConnection) -> None:
    days = [day for hours in sessions_of("24/7")[:8] if (day := day_of(hours, 60, 1.0, 1.0)) is not None]
    days[-1] = days[-1]._replace(bars=600)
    assert found_by_sql(connection, {"BTC": days}, 60) == {("BTC", days[-1].hours.session): "few bars"}


def bars_of(hours: Hours, starts: list[datetime], interval: timedelta) -> pl.DataFrame:
    rows = [
        {
            "instrument_id": "A",
            "currency": "EUR",
            "segment": "regular",
            "session": hours.session,
            "start_at": start,
            "end_at": start + interval,
            **dict.fromkeys(("open", "high", "low", "close"), 10.0),
            "volume": 1,
            "is_traded": True,
        }
        for start in starts
    ]
    return pl.DataFrame(rows, schema=BAR_COLUMNS)


def stored(
    connection: duckdb.DuckDBPyConnection, hours: Hours, bars: pl.DataFrame, came: bool = True
) -> dict[str, Any]:
    connection.register("bars", bars.to_arrow())
    row = pl.DataFrame([{**hours._asdict(), "is_complete": came}])
    connection.register("came", row.to_arrow())
    return connection.execute(rules.daily("bars", "came", "UTC")).pl().to_dicts()[0]


@given(
    calendar=st.sampled_from(list(CALENDARS)),
    interval=st.sampled_from(["1min", "5min", "1h", "1d"]),
    density=st.sampled_from([0.05, 0.5, 0.7, 1.0]),
    cut=st.sampled_from([1.0, 0.97, 0.86, 0.84, 0.6, 0.3, 0.1, 0.01]),
    before_open=st.booleans(),
    came=st.booleans(),
    seed=st.integers(0, 100),
)
def test_daily__is_complete_follows_from_the_sessions_own_bars_and_hours(
    calendar: str,
    interval: str,
    density: float,
    cut: float,
    before_open: bool,
    came: bool,
    seed: int,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    hours = sessions_of(calendar)[seed % 20]
    step = timedelta(seconds=INTERVALS[interval])
    first = hours.open_at - step / 2 if before_open else hours.open_at
    last = hours.open_at + (hours.close_at - hours.open_at) * cut
    draw = random.Random(seed)
    starts = [first + step * number for number in range(max(math.ceil((last - first) / step), 1))]
    kept = [start for start in starts if draw.random() < density] or starts[:1]
    row = stored(connection, hours, bars_of(hours, kept, step), came)
    wanted = is_whole(came, len(kept), step, hours.open_at, kept[-1] + step, hours.close_at)
    assert row["is_complete"] is wanted


def test_daily__a_day_of_a_market_without_a_close_that_stops_in_the_morning(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    hours = sessions_of("24/7")[0]
    starts = [hours.open_at + timedelta(minutes=minute) for minute in range(456)]
    row = stored(connection, hours, bars_of(hours, starts, timedelta(minutes=1)))
    assert (row["bar_count"], row["is_complete"]) == (456, None)


def test_daily__bars_of_a_day_or_of_hours_that_straddle_the_open_reach_the_close(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    hours = sessions_of("XNYS")[0]
    midnight = hours.open_at - HOUR * 9.5
    for starts, interval in (
        ([midnight], timedelta(days=1)),
        ([hours.open_at - HOUR / 2 + HOUR * number for number in range(7)], HOUR),
    ):
        assert stored(connection, hours, bars_of(hours, starts, interval))["is_complete"] is True

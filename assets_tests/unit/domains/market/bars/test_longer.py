"""Bars of a longer interval, held against a plain computation over calendars, intervals and grids."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.calendars import CALENDARS
from lakehouse.domains.market.bars.longer import longer
from lakehouse.domains.market.calendar import build_sessions
from lakehouse.lake.engine import connect

FIRST, LAST = date(2020, 10, 22), date(2020, 11, 27)
"""Clocks change on both sides of the Atlantic; the last session of New York is a half-day."""
AUCTION = timedelta(minutes=10)
LENGTHS = {"1min": 60, "5min": 300, "15min": 900, "30min": 1800, "1h": 3600, "1d": 86400}


class Hours(NamedTuple):
    session: date
    open_at: datetime
    regular_end_at: datetime


@cache
def sessions_of(calendar: str) -> list[Hours]:
    frame = build_sessions(CALENDARS[calendar], FIRST).filter(pl.col("session") <= LAST)
    return [Hours(day, opens, closes + AUCTION) for day, opens, closes in frame.select(
        "session", "open_at", "close_at"
    ).iter_rows()]  # fmt: skip


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as made:
        yield made


SCHEMA = {
    **dict.fromkeys(("instrument_id", "symbol", "name", "instrument_type", "currency", "interval"), pl.String),
    "session": pl.Date,
    "segment": pl.String,
    **dict.fromkeys(("start_at", "end_at"), pl.Datetime("us", "UTC")),
    **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), pl.Float64),
    "trades": pl.Int64,
    "is_traded": pl.Boolean,
}
KEY = ("instrument_id", "session", "segment", "start_at")


def bars_of(hours: Hours, length: timedelta, shift: timedelta, seed: int, extended: bool) -> list[dict[str, Any]]:
    """Bars of two instruments on a grid that begins so long before the opening."""
    draw, rows = random.Random(seed), []
    around = timedelta(hours=2) if extended else timedelta(0)
    first = hours.open_at - shift
    steps = range(-math.ceil(around / length), math.ceil((hours.regular_end_at + around - first) / length))
    for name in ("A", "B"):
        for number in steps:
            start = first + number * length
            if draw.random() < 0.3 or (not extended and start >= hours.regular_end_at):
                continue
            low = draw.randint(90, 100)
            rows.append(
                {
                    "instrument_id": name,
                    "symbol": name,
                    "currency": "EUR",
                    "interval": "stored",
                    "session": hours.session,
                    "segment": "pre"
                    if start + length <= hours.open_at
                    else "regular"
                    if start < hours.regular_end_at
                    else "post",
                    "start_at": start,
                    "end_at": start + length,
                    "open": low + 1.0,
                    "high": low + float(draw.randint(2, 9)),
                    "low": float(low),
                    "close": low + 2.0,
                    "volume": float(draw.randint(1, 9)),
                    "vwap": low + 1.5,
                    "trades": draw.randint(1, 5),
                    "is_traded": draw.random() < 0.9,
                }
            )
    return rows


def reference(rows: list[dict[str, Any]], hours: Hours, step: timedelta, shift: timedelta) -> list[dict[str, Any]]:
    """Each traded bar into the interval that it begins in, counted from the beginning of the grid's first bar."""
    grouped = defaultdict(list)
    for row in rows:
        if row["is_traded"]:
            number = None if step >= timedelta(days=1) else (row["start_at"] - (hours.open_at - shift)) // step
            grouped[row["instrument_id"], row["segment"], number].append(row)
    found = []
    for (name, segment, number), bars in grouped.items():
        begins = min(bar["start_at"] for bar in bars) if number is None else hours.open_at - shift + number * step
        ends = max(bar["end_at"] for bar in bars) if number is None else begins + step
        lower = {"pre": begins, "regular": hours.open_at, "post": hours.regular_end_at}[segment]
        upper = {"pre": hours.open_at, "regular": hours.regular_end_at, "post": ends}[segment]
        if number is None:
            begins, ends = lower, upper
        found.append(
            {
                "instrument_id": name,
                "session": hours.session,
                "segment": segment,
                "start_at": min(max(begins, lower), *(bar["start_at"] for bar in bars)),
                "end_at": max(min(ends, upper), *(bar["end_at"] for bar in bars)),
                "open": bars[0]["open"],
                "high": max(bar["high"] for bar in bars),
                "low": min(bar["low"] for bar in bars),
                "close": bars[-1]["close"],
                "volume": sum(bar["volume"] for bar in bars),
                "trades": sum(bar["trades"] for bar in bars),
                "vwap": pytest.approx(
                    sum(bar["vwap"] * bar["volume"] for bar in bars) / sum(bar["volume"] for bar in bars)
                ),
                "bar_count": len(bars),
            }
        )
    return sorted(found, key=lambda row: [row[name] for name in KEY])


def asked(
    connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], hours: Hours, interval: str, stored: timedelta
) -> list[dict[str, Any]]:
    connection.register("stored_bars", pl.DataFrame(rows, schema=SCHEMA).to_arrow())
    connection.register("hours", pl.DataFrame([hours], schema=Hours._fields, orient="row").to_arrow())
    query = longer("stored_bars", "hours", f"'{interval}'", stored)
    return connection.execute(f"FROM ({query}) ORDER BY {', '.join(KEY)}").pl().to_dicts()


@given(
    calendar=st.sampled_from(list(CALENDARS)),
    stored=st.sampled_from(["1min", "5min", "1h"]),
    interval=st.sampled_from(list(LENGTHS)),
    at=st.integers(0, 20),
    shifted=st.booleans(),
    extended=st.booleans(),
    seed=st.integers(0, 9),
)
def test_longer__says_what_a_plain_computation_says(
    calendar: str,
    stored: str,
    interval: str,
    at: int,
    shifted: bool,
    extended: bool,
    seed: int,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    length, step = timedelta(seconds=LENGTHS[stored]), timedelta(seconds=LENGTHS[interval])
    if step % length:
        return
    hours = sessions_of(calendar)[at]
    shift = length / 2 if shifted else timedelta(0)
    rows = bars_of(hours, length, shift, seed, extended)
    found = asked(connection, rows, hours, interval, length)
    wanted = reference(rows, hours, step, shift)
    assert [{name: row[name] for name in each} for row, each in zip(found, wanted, strict=True)] == wanted
    assert {row["interval"] for row in found} <= {interval}


def test_longer__counts_the_hours_of_new_york_from_half_past_nine(connection: duckdb.DuckDBPyConnection) -> None:
    hours = sessions_of("XNYS")[-1]
    rows = [row for row in bars_of(hours, timedelta(minutes=1), timedelta(0), 1, False) if row["instrument_id"] == "A"]
    found = asked(connection, rows, hours, "1h", timedelta(minutes=1))
    assert [f"{row['start_at']:%H:%M}-{row['end_at']:%H:%M}" for row in found] == [
        "14:30-15:30", "15:30-16:30", "16:30-17:30", "17:30-18:10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "says"),
    {
        "5": "is not a number followed by s, min, h or d",
        "5 min": "is not a number followed by s, min, h or d",
        "0min": "is not a number followed by s, min, h or d",
        "": "is not a number followed by s, min, h or d",
        "7min": "interval '7min' is not a multiple of the stored bars' 300 s",
        "1min": "is not a multiple of the stored bars' 300 s",
        "2d": "is longer than 1d: a bar belongs to one session",
        "100000h": "is longer than 1d",
    }.items(),
)
def test_longer__says_which_intervals_it_cannot_make(
    interval: str, says: str, connection: duckdb.DuckDBPyConnection
) -> None:
    hours = sessions_of("XETR")[0]
    rows = bars_of(hours, timedelta(minutes=5), timedelta(0), 1, False)
    with pytest.raises(duckdb.InvalidInputException, match=says):
        asked(connection, rows, hours, interval, timedelta(minutes=5))

"""The rules of sliding windows, held against plain Python: both ways from panes to windows, where a window begins and
ends, when it is closed, and how often it was revised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assets_tests.support.window_reference import (
    DEFAULT,
    Closed,
    Lengths,
    Measures,
    Place,
    Told,
    assert_same,
    closed_windows,
    filled_windows,
    measures_of,
)
from lakehouse.domains.market.quotes import rules
from lakehouse.domains.market.quotes.rules import WindowRule
from lakehouse.lake.engine import connect

SCHEMA: dict[str, Any] = {
    "symbol": pl.String,
    "event_time": pl.Datetime("us", "UTC"),
    "latest_price": pl.Float64,
    "ingested_at": pl.Datetime("us", "UTC"),
}
LEARNT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
# The last moments of a day, of a leap day, of a century; and a minute of no importance.
BASES = [
    datetime(2021, 3, 1, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(2020, 11, 13, 15, 20, tzinfo=UTC),
]
MICROSECOND = timedelta(microseconds=1)


def rule_of(lengths: Lengths) -> WindowRule:
    return WindowRule(
        tuple(timedelta(minutes=minutes) for minutes in lengths.minutes),
        timedelta(seconds=lengths.period_s),
        timedelta(seconds=lengths.offset_s),
        timedelta(seconds=lengths.lateness_s),
    )


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as opened:
        yield opened


@contextmanager
def known(connection: duckdb.DuckDBPyConnection, quotes: list[Told]) -> Iterator[None]:
    """The quotes as a relation of that name, in the order in which they are given."""
    connection.register("quotes", pl.DataFrame(quotes, schema=SCHEMA, orient="row"))
    yield
    connection.unregister("quotes")


def slid(connection: duckdb.DuckDBPyConnection, first: datetime, last: datetime, rule: WindowRule) -> pl.DataFrame:
    """The windows by the way that slides over a long stretch."""
    return connection.execute(rules.windows_over(f"({rules.panes('quotes', rule)})", first, last, rule)).pl()


def looked_at(connection: duckdb.DuckDBPyConnection, first: datetime, last: datetime, rule: WindowRule) -> pl.DataFrame:
    """The windows by the way that looks at a few ends. Each quote's pane is left beside the others, unmerged."""
    ends = []
    while first <= last:
        ends.append(first)
        first += rule.period
    connection.register("ends", pl.DataFrame({"window_end": ends}, schema={"window_end": pl.Datetime("us", "UTC")}))
    panes = rules.panes("(SELECT *, row_number() OVER () AS number FROM quotes)", rule)
    one_each = panes.replace("GROUP BY ALL", "GROUP BY symbol, pane_start, number")
    assert one_each != panes
    return connection.execute(rules.windows_at(f"({one_each})", "ends", rule)).pl()


def all_ends(quotes: list[Told], lengths: Lengths) -> tuple[datetime, datetime]:
    """The first end and the last end of the windows that the quotes are in."""
    ends = [place.window_end for place in filled_windows(quotes, lengths)]
    return min(ends), max(ends)


@st.composite
def some_lengths(draw: st.DrawFn) -> Lengths:
    period = draw(st.sampled_from([1, 5, 10, 15, 20, 30, 60]))
    minutes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True))
    return Lengths(
        tuple(minutes),
        period,
        draw(st.integers(0, period - 1)),
        draw(st.sampled_from([0, 1, 3.5, 10, 20, 61])),
    )


@st.composite
def some_quotes(draw: st.DrawFn, lengths: Lengths, commits: int = 1) -> list[Told]:
    """Quotes of a few minutes, many of them at the very end of a window or a microsecond beside it; commits in any
    order of event time.
    """
    base = draw(st.sampled_from(BASES))
    seconds = st.integers(-400, 400)
    ends = st.integers(-400 // lengths.period_s, 400 // lengths.period_s).map(
        lambda number: number * lengths.period_s + lengths.offset_s
    )
    at_ends = st.tuples(ends, st.sampled_from([-1, 0, 1]))
    anywhere = st.tuples(seconds, st.sampled_from([0, 1, 499_999, 999_000, 999_999]))
    moments = st.one_of(at_ends, anywhere).map(
        lambda parts: base + timedelta(seconds=parts[0], microseconds=parts[1])
    )  # fmt: skip
    # Cents, and prices that no sum of doubles takes exactly in any order.
    prices = st.one_of(st.integers(0, 30_000).map(lambda cents: cents / 100), st.sampled_from([0.0, 1e-6, 0.1, 1e11]))
    told = draw(
        st.lists(
            st.tuples(st.sampled_from(["AAPL", "NIO", "ÖL"]), moments, prices, st.integers(0, commits - 1)),
            min_size=1,
            max_size=25,
            unique_by=lambda quote: quote[:2],
        )
    )
    return [
        Told(symbol, moment, price, LEARNT + timedelta(milliseconds=number)) for symbol, moment, price, number in told
    ]


@given(data=st.data(), lengths=some_lengths())
def test_both_ways_make_the_windows_of_plain_python(
    connection: duckdb.DuckDBPyConnection, data: st.DataObject, lengths: Lengths
) -> None:
    quotes, rule = data.draw(some_quotes(lengths)), rule_of(lengths)
    first, last = all_ends(quotes, lengths)
    expected = {place: measures_of(inside) for place, inside in filled_windows(quotes, lengths).items()}
    with known(connection, quotes):
        over, at = slid(connection, first, last, rule), looked_at(connection, first, last, rule)
    assert_same(over, expected)
    assert_same(at, expected)
    # Bit for bit, though one added the prices up in another order.
    assert over.sort(Place._fields).equals(at.sort(Place._fields))


@given(data=st.data(), lengths=some_lengths(), before=st.integers(0, 40), ends=st.integers(0, 20))
def test_a_stretch_is_a_part_of_the_whole(
    connection: duckdb.DuckDBPyConnection, data: st.DataObject, lengths: Lengths, before: int, ends: int
) -> None:
    quotes, rule = data.draw(some_quotes(lengths)), rule_of(lengths)
    start, _ = all_ends(quotes, lengths)
    first = start + before * rule.period
    last = first + ends * rule.period
    expected = {
        place: measures_of(inside)
        for place, inside in filled_windows(quotes, lengths).items()
        if first <= place.window_end <= last
    }
    with known(connection, quotes):
        assert_same(slid(connection, first, last, rule), expected)
        assert_same(looked_at(connection, first, last, rule), expected)


@given(data=st.data(), lengths=some_lengths())
def test_windows_close_by_the_watermark_and_late_quotes_revise_them(
    connection: duckdb.DuckDBPyConnection, data: st.DataObject, lengths: Lengths
) -> None:
    quotes, rule = data.draw(some_quotes(lengths, commits=5)), rule_of(lengths)
    first, last = all_ends(quotes, lengths)
    with known(connection, quotes):
        rows = connection.execute(rules.closed_windows("quotes", "quotes", first, last, rule, None)).pl()
    assert_same(rows, closed_windows(quotes, lengths))


@given(data=st.data(), lengths=some_lengths(), before=st.integers(0, 60), ends=st.integers(0, 30))
def test_a_stretch_needs_its_own_quotes_and_when_later_ones_were_first_heard(
    connection: duckdb.DuckDBPyConnection, data: st.DataObject, lengths: Lengths, before: int, ends: int
) -> None:
    quotes, rule = data.draw(some_quotes(lengths, commits=5)), rule_of(lengths)
    start, _ = all_ends(quotes, lengths)
    first = start + before * rule.period
    last = first + ends * rule.period
    beyond = last + rule.lateness + rule.period
    later = min((quote.ingested_at for quote in quotes if quote.event_time >= beyond), default=None)
    inside = f"(SELECT * FROM quotes WHERE event_time >= '{first - rule.longest}' AND event_time < '{last}')"
    watching = f"(SELECT * FROM quotes WHERE event_time >= '{first}' AND event_time < '{beyond}')"
    with known(connection, quotes):
        rows = connection.execute(rules.closed_windows(inside, watching, first, last, rule, later)).pl()
    whole = closed_windows(quotes, lengths)
    assert_same(rows, {place: window for place, window in whole.items() if first <= place.window_end <= last})


@given(moment=st.datetimes(datetime(1999, 12, 30), datetime(2040, 1, 1)), lengths=some_lengths())
@example(moment=datetime(2021, 3, 1, 0, 0, 5), lengths=DEFAULT)
@example(moment=datetime(2021, 3, 1, 0, 0, 4, 999_999), lengths=DEFAULT)
def test_ends_lie_where_the_clock_has_them(moment: datetime, lengths: Lengths) -> None:
    rule, now = rule_of(lengths), moment.replace(tzinfo=UTC)
    for minutes in lengths.minutes:
        ends = list(lengths.ends_of(now, minutes))
        assert len(ends) == minutes * 60 // lengths.period_s
        assert rule.next_end(now) == ends[0]
        assert rule.last_end(now) == ends[0] - rule.period
    assert rule.closed_through(now + rule.lateness) == rule.last_end(now)


# What each rule means, in small.

END = datetime(2021, 3, 1, 15, 0, 5, tzinfo=UTC)
RULE = rule_of(DEFAULT)


def told(seconds: float, price: float = 1.0, *, symbol: str = "AAPL", commit: int = 0) -> Told:
    """A quote so many seconds from END, known by the commit of that number."""
    return Told(symbol, END + timedelta(seconds=seconds), price, LEARNT + timedelta(seconds=commit))


def windows(
    connection: duckdb.DuckDBPyConnection, quotes: list[Told], first: int = -90, last: int = 90
) -> pl.DataFrame:
    """The closed windows of the default lengths that end so many periods from END, or in between."""
    with known(connection, quotes):
        query = rules.closed_windows(
            "quotes", "quotes", END + first * RULE.period, END + last * RULE.period, RULE, None
        )  # fmt: skip
        return connection.execute(query).pl()


def one(rows: pl.DataFrame, seconds: float = 0, minutes: int = 1, symbol: str = "AAPL") -> dict[str, object]:
    """The window that ends so many seconds from END."""
    end = END + timedelta(seconds=seconds)
    found = [row for row in rows.to_dicts() if tuple(row[name] for name in Place._fields) == (minutes, end, symbol)]
    assert len(found) == 1
    return found[0]


def test_a_quote_at_the_end_of_a_window_is_outside_and_one_at_its_beginning_inside(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    first, last = told(-60, 3.0), told(0, 7.0)
    inside, outside = (
        told(0, 5.0)._replace(event_time=END - MICROSECOND),
        first._replace(event_time=END - timedelta(0, 60, 1)),
    )
    rows = windows(connection, [first, last, inside, outside, told(999, 1.0, symbol="CLOCK")])
    window = one(rows)
    assert (window["first_price"], window["last_price"], window["quote_count"]) == (3.0, 5.0, 2)
    assert one(rows, 10)["last_price"] == 7.0
    assert one(rows, -10)["quote_count"] == 2


@pytest.mark.parametrize(("minutes", "number"), [(1, 6), (5, 30), (15, 90)])
def test_a_quote_is_in_as_many_windows_as_periods_fit(
    connection: duckdb.DuckDBPyConnection, minutes: int, number: int
) -> None:
    rows = windows(connection, [told(-5), told(9_999, symbol="CLOCK")])
    mine = rows.filter((rows["symbol"] == "AAPL") & (rows["resolution_minutes"] == minutes))
    assert mine["window_end"].sort().to_list() == [END + n * RULE.period for n in range(number)]


def test_the_gain_of_a_window_that_begins_at_nothing_is_unknown(connection: duckdb.DuckDBPyConnection) -> None:
    rows = windows(connection, [told(-20, 0.0), told(-10, 4.0), told(99, symbol="CLOCK")])
    assert one(rows)["percentage_gain"] is None
    assert one(rows)["mean_price"] == 2.0
    assert one(rows, 50)["percentage_gain"] == 0.0


def test_first_and_last_go_by_event_time_not_by_arrival(connection: duckdb.DuckDBPyConnection) -> None:
    rows = windows(connection, [told(-10, 9.0), told(-30, 8.0, commit=1), told(-20, 7.0, commit=2), told(99, commit=3)])
    window = one(rows)
    assert (window["first_price"], window["last_price"], window["percentage_gain"]) == (8.0, 9.0, 12.5)
    assert window["revision"] == 1


def test_the_mean_does_not_depend_on_the_order_of_a_sum(connection: duckdb.DuckDBPyConnection) -> None:
    prices = [1e11, 0.1, 0.2, 0.3, 1e-6]
    quotes = [told(-50 + 10 * n, price) for n, price in enumerate(prices)]
    means = {one(windows(connection, [*order, told(99)]))["mean_price"] for order in (quotes, quotes[::-1])}
    assert means == {float(sum(map(Fraction, prices)) / 5)}


def test_the_mean_of_one_price_is_that_price(connection: duckdb.DuckDBPyConnection) -> None:
    cents = range(1, 50_000, 7)
    quotes = [told(-60 + 10 * n, price / 100, symbol=str(price)) for price in cents for n in range(6)]
    rows = windows(connection, [*quotes, told(99, symbol="CLOCK")], 0, 0)
    means = dict(rows.filter(rows["resolution_minutes"] == 1).select("symbol", "mean_price").iter_rows())
    assert means == {str(price): price / 100 for price in cents}


def test_a_window_closes_when_the_watermark_is_at_its_end(connection: duckdb.DuckDBPyConnection) -> None:
    almost = told(20, symbol="CLOCK", commit=1)._replace(event_time=END + timedelta(seconds=20) - MICROSECOND)
    assert windows(connection, [told(-5), almost], 0, 0).is_empty()
    # Any symbol moves the watermark, a late quote doesn't move it back.
    rows = windows(connection, [told(-5), almost, told(20, symbol="CLOCK", commit=2), told(-70, commit=3)], 0, 0)
    assert one(rows)["closed_at"] == LEARNT + timedelta(seconds=2)
    assert one(rows)["revision"] == 1


def test_each_arrival_after_closing_is_a_revision_of_the_windows_it_is_in(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    closing = [told(-5), told(20, symbol="CLOCK", commit=1)]
    # In the commit that closes it, before it, two in one later commit, and one in another.
    others = [told(-6, commit=1), told(-7), told(-8, commit=2), told(-9, commit=2), told(-10, commit=3)]
    rows = windows(connection, [*closing, *others], 0, 0)
    assert (one(rows)["revision"], one(rows)["quote_count"]) == (3, 6)
    # A window in which there was nothing when it was closed.
    rows = windows(connection, [*closing, told(-8, symbol="NIO", commit=2)], 0, 0)
    assert (one(rows, symbol="NIO")["revision"], one(rows)["revision"]) == (2, 1)
    assert one(rows, symbol="NIO")["closed_at"] == LEARNT + timedelta(seconds=1)


def test_no_quote_makes_no_window(connection: duckdb.DuckDBPyConnection) -> None:
    assert windows(connection, []).is_empty()


def test_the_reference_says_what_the_rules_say_of_a_quote() -> None:
    """The reference itself, on numbers that can be counted on one's fingers."""
    quotes = [told(-5, 10.0), told(-4, 13.0, commit=2), told(20, 1.0, symbol="CLOCK", commit=1)]
    found = closed_windows(quotes)
    window = found[Place(1, END, "AAPL")]
    assert window == Closed(
        Measures(Fraction(23, 2), 10.0, 13.0, 10.0, 13.0, 2, 30.0), 2, LEARNT + timedelta(seconds=1)
    )
    assert {place.window_end for place in found} == {END}

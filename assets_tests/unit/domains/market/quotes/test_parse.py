"""Quotes as a vendor tells them: what of an answer is kept, and why an answer is no quote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.feed_lake import EPOCH, SOURCE, said
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.parse import Heard, RepeatedMember, json_document, quote_rows, refused
from lakehouse.lake.engine import connect

FEED = feed_named(SOURCE)
NOW = datetime(2021, 3, 1, 15, 0, 0, 123_000, tzinfo=UTC)
SAID_AT = NOW - timedelta(seconds=1)
YEAR_2200 = datetime(2200, 1, 1, tzinfo=UTC)

NO_PRICE = "latest_price is missing or not a double"
NO_NUMBER = "latestPrice is no number"
NO_TIME = "event_time is missing or not a timestamp"
NO_SYMBOL = "symbol is missing or not a string"
OTHER_SYMBOL = "symbol is not the symbol that was asked for"


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect("") as opened:
        yield opened


def heard(document: object, asked: str | None = "AAPL") -> Heard:
    return Heard(asked, json.dumps(document), document, SAID_AT)


def told(connection: duckdb.DuckDBPyConnection, *answers: Heard) -> tuple[list[dict[str, Any]], dict[int, list[str]]]:
    """The rows, and why some are refused."""
    rows = quote_rows(answers, FEED, NOW)
    return rows.to_dicts(), refused(rows, FEED, connection)


def test_the_members_of_an_answer_become_columns(connection: duckdb.DuckDBPyConnection) -> None:
    members = {
        "latestVolume": 1_000, "iexBidPrice": 115.9, "iexBidSize": 100, "iexAskPrice": 116.1, "iexAskSize": 300,
        "open": 115.0, "high": 117, "low": 114.5, "previousClose": 115.25, "companyName": "Apple", "marketCap": 2e12,
    }  # fmt: skip
    (row,), against = told(connection, said("AAPL", NOW, 116, **members))
    assert not against
    kept = {name: row[name] for name in FEED.contract("quotes").column_names if name != "published_at"}
    assert kept == {
        "symbol": "AAPL", "latest_price": 116.0, "event_time": NOW, "day": NOW.date(), "volume": 1_000.0,
        "bid": 115.9, "bid_size": 100.0, "ask": 116.1, "ask_size": 300.0, "open": 115.0, "high": 117.0, "low": 114.5,
        "previous_close": 115.25, "ingested_at": NOW,
    }  # fmt: skip


def test_members_may_be_null_or_absent_except_symbol_price_and_time(connection: duckdb.DuckDBPyConnection) -> None:
    (row, bare), against = told(connection, said("AAPL", NOW, 0, iexBidPrice=None, open=None), said("AAPL", NOW, 0.5))
    assert not against
    assert (row["bid"], row["open"], row["high"]) == (bare["bid"], bare["open"], bare["high"]) == (None, None, None)


MISTAKES: dict[str, tuple[dict[str, object], list[str]]] = {
    "no price": ({"latestPrice": None}, [NO_PRICE]),
    "text for a price": ({"latestPrice": "n/a"}, [NO_PRICE, NO_NUMBER]),
    "a number in a text": ({"latestPrice": "116.0"}, [NO_PRICE, NO_NUMBER]),
    "yes for a price": ({"latestPrice": True}, [NO_PRICE, NO_NUMBER]),
    "more than a number holds": ({"latestPrice": 10**400}, [NO_PRICE, NO_NUMBER]),
    "infinity": ({"latestPrice": math.inf}, [NO_PRICE, NO_NUMBER]),
    "a list for a price": ({"latestPrice": [116.0]}, [NO_PRICE, NO_NUMBER]),
    "below nothing": ({"latestPrice": -0.01}, ["latest_price is negative"]),
    "a price without measure": ({"latestPrice": 1e12}, ["latest_price is no price of this world"]),
    "no time": ({"latestUpdate": None}, [NO_TIME]),
    "a text for a time": ({"latestUpdate": "2021-03-01T15:00:00Z"}, [NO_TIME]),
    "the beginning of time": ({"latestUpdate": 0}, [NO_TIME]),
    "before it": ({"latestUpdate": -1}, [NO_TIME]),
    "seconds": (
        {"latestUpdate": 1_614_610_800},
        ["event_time is before 1990; is its unit another than the feed's time_unit?"],
    ),
    "nanoseconds": ({"latestUpdate": 1_614_610_800_000_000_000}, [NO_TIME]),
    "no symbol": ({"symbol": None}, [NO_SYMBOL]),
    "a number for a symbol": ({"symbol": 7}, [NO_SYMBOL]),
    "an empty symbol": ({"symbol": " "}, ["symbol is empty or has a NUL", OTHER_SYMBOL]),
    "another symbol": ({"symbol": "NIO"}, [OTHER_SYMBOL]),
    "text for a volume": ({"latestVolume": "much"}, ["latestVolume is no number"]),
    "a minute ahead": (
        {"latestUpdate": (NOW + timedelta(seconds=60, milliseconds=1) - EPOCH) // timedelta(milliseconds=1)},
        ["event_time is later than the moment at which it came"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_no_quote_is_refused_with_its_reasons(connection: duckdb.DuckDBPyConnection, mistake: str) -> None:
    members, reasons = MISTAKES[mistake]
    good = said("AAPL", NOW, 116.0)
    assert isinstance(good.document, dict)
    _, against = told(connection, good, heard({**good.document, **members}), good)
    assert {number: sorted(found) for number, found in against.items()} == {1: sorted(reasons)}


@pytest.mark.parametrize("document", [None, [], "AAPL", 116.0, {}, [{"symbol": "AAPL"}]])
def test_what_is_no_object_is_no_quote(connection: duckdb.DuckDBPyConnection, document: object) -> None:
    _, against = told(connection, heard(document))
    assert sorted(against[0]) == sorted([NO_SYMBOL, NO_PRICE, NO_TIME])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_whole_number_beyond_64_bits_is_refused(connection: duckdb.DuckDBPyConnection, number: int) -> None:
    document = said("AAPL", NOW, 116.0, latestVolume=number).document
    _, against = told(connection, heard(document))
    assert against == {0: ["latestVolume is no number"]}


@pytest.mark.parametrize("text", [b'{"latestPrice": 116, "latestPrice": 11.6}', b'{"x": [{"a": 1, "b": 2, "a": 1}]}'])
def test_a_second_member_of_the_same_name_is_refused(connection: duckdb.DuckDBPyConnection, text: bytes) -> None:
    with pytest.raises(RepeatedMember, match="more than once") as fault:
        json_document(text)
    _, against = told(connection, Heard("AAPL", text.decode(), {}, SAID_AT, str(fault.value)))
    assert against == {0: [str(fault.value)]}


def test_a_clock_that_is_a_little_ahead_is_borne(connection: duckdb.DuckDBPyConnection) -> None:
    _, against = told(connection, said("AAPL", NOW + timedelta(seconds=60), 116.0))
    assert not against


def test_a_symbol_may_be_asked_for_in_small_letters_or_not_at_all(connection: duckdb.DuckDBPyConnection) -> None:
    document = said("BRK.B", NOW, 116.0).document
    rows, against = told(connection, heard(document, "brk.b"), heard(document, None), heard(document, "BRK-B"))
    assert against == {2: [OTHER_SYMBOL]}
    # It is one series, however the vendor writes it.
    assert [row["symbol"] for row in rows][:2] == ["brk.b", "BRK.B"]


def test_a_nul_in_a_symbol_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    _, against = told(connection, heard(said("A\x00", NOW, 116.0).document, None))
    assert against == {0: ["symbol is empty or has a NUL"]}


UNITS: dict[Literal["s", "ms", "us", "ns"], int] = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 1}


@given(
    moment=st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 31)),
    unit=st.sampled_from(list(UNITS)),
    further=st.integers(0, 999),
)
def test_times_are_exact_in_every_unit(moment: datetime, unit: Literal["s", "ms", "us", "ns"], further: int) -> None:
    whole = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=UNITS[unit])
    number = whole * 1000 + further if unit == "ns" else whole
    feed = FEED.changed(time_unit=unit)
    rows = quote_rows([heard({"symbol": "AAPL", "latestPrice": 1.0, "latestUpdate": number})], feed, NOW)
    expected = EPOCH + whole * timedelta(microseconds=UNITS[unit])
    assert rows["event_time"].to_list() == [expected]
    assert rows["day"].to_list() == [expected.date()]


# Anything that JSON can say, and much of it where a quote has something else.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
moments = st.integers(-(10**6), 10**6).map(lambda offset: 1_614_610_800_123 + offset)
prices = st.floats(-1, 1e12) | st.integers(-1, 10**12)
documents = values | st.fixed_dictionaries(
    {"symbol": st.sampled_from(["AAPL", "aapl", "NIO", "", " "]) | values, "latestPrice": prices | values},
    optional={"latestUpdate": moments | values, "latestVolume": values, "high": prices},
)


def is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return abs(value) <= 1.7976931348623157e308  # neither infinite, nor NaN, nor more than a double holds


def is_quote(document: object) -> bool:
    """Whether it is one, said once more: an answer of AAPL's, with a price and a time that there can be."""
    if not isinstance(document, dict):
        return False
    symbol: Any = document.get("symbol")
    price: Any = document.get("latestPrice")
    time: Any = document.get("latestUpdate")
    others = (document.get(name) for name in ("latestVolume", "high"))
    return (
        isinstance(symbol, str)
        and symbol in ("AAPL", "aapl")
        and is_number(price)
        and (price == 0 or 1e-12 <= price < 1e12)
        and is_number(time)
        and time > 0
        and EPOCH + timedelta(milliseconds=math.floor(min(time, 10**13))) <= NOW + timedelta(minutes=1)
        and all(other is None or is_number(other) for other in others)
    )


@given(answers=st.lists(documents, min_size=1, max_size=6))
def test_whatever_is_answered_is_kept_or_refused_for_a_reason(
    connection: duckdb.DuckDBPyConnection, answers: list[object]
) -> None:
    rows, against = told(connection, *map(heard, answers))
    assert [row["number"] for row in rows] == list(range(len(answers)))
    assert all(found and all(found) for found in against.values())
    for number, document in enumerate(answers):
        assert (number not in against) == is_quote(document), (document, against.get(number))

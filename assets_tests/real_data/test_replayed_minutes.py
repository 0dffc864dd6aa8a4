"""Real minutes told again as quotes: windows that coincide with a minute, or with five or fifteen, have the prices of
the vendor's bars.

Each minute is told by what its bar knows: open and close at its ends, high and low in between; the other ten seconds
repeat what was said before, as a poll would.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from assets_tests.support.feed_lake import TOKEN, FeedLake, polled
from assets_tests.support.vendor_lake import NEW_YORK
from assets_tests.support.window_reference import DEFAULT, Lengths, assert_same, closed_windows
from lakehouse.domains.market.quotes.config import Windows
from lakehouse.domains.market.quotes.poller import Poller
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import Quote, ReplayedQuotes

SYMBOLS = ("AAPL", "NIO")
# The spike of NIO at 15:20 is a part of it; the minute after the last closes the windows.
FIRST = datetime(2020, 11, 13, 15, 0, tzinfo=NEW_YORK).astimezone(UTC)
MINUTES = 30
MINUTE = timedelta(minutes=1)
ON_MINUTES = Lengths(offset_s=0)


class Bar(NamedTuple):
    open: float
    high: float
    low: float
    close: float


Bars = dict[tuple[str, datetime], Bar]


@pytest.fixture(scope="module")
def bars(shared_data: Path) -> Bars:
    """The bars by symbol and start; the vendor's label is a bar's end."""
    found: Bars = {}
    for symbol in SYMBOLS:
        path = shared_data / "alphavantage" / "intraday_1min" / f"intraday_1min_{symbol}.csv.gz"
        with gzip.open(path, "rt") as lines:
            for row in csv.DictReader(lines):
                end = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=NEW_YORK).astimezone(UTC)
                if FIRST < end <= FIRST + (MINUTES + 1) * MINUTE:
                    prices = (float(row[name]) for name in Bar._fields)
                    found[symbol, end - MINUTE] = Bar(*prices)
    assert len(found) == (MINUTES + 1) * len(SYMBOLS)
    return found


def quotes_of(symbol: str, start: datetime, bar: Bar) -> list[Quote]:
    """A minute as quotes: at :00, :10 (rising bars see their low first), :40, and in its last millisecond."""
    extremes = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    told = zip((0.0, 10.0, 40.0, 59.999), (bar.open, *extremes, bar.close), strict=True)
    return [Quote(symbol, price, start + timedelta(seconds=at), 0, price, price) for at, price in told]


async def replay(lake: FeedLake, vendor: QuoteFeed) -> None:
    """A poll every ten seconds, but in the last millisecond of a minute for that at :50; stored minute by minute."""
    async with Poller(lake.described) as poller:
        for _ in range(MINUTES + 1):
            for seconds in (10, 10, 10, 10, 19.999, 0.001):
                await asyncio.gather(*poller.ask_all(vendor.now(), 5))
                vendor.advance(seconds)
            inbox = poller.inbox.take()
            assert not inbox.errors
            lake.tell(inbox.heard)


@pytest.fixture(scope="module")
def replayed(bars: Bars, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedLake]:
    told: dict[str, list[Quote]] = {symbol: [] for symbol in SYMBOLS}
    for (symbol, start), bar in bars.items():
        told[symbol] += quotes_of(symbol, start, bar)
    vendor = QuoteFeed(ReplayedQuotes(told), token=TOKEN, start=FIRST, speed=0)
    with polled(tmp_path_factory.mktemp("replayed"), vendor, SYMBOLS) as lake:
        lake.described = lake.described.changed(windows=Windows(offset_s=ON_MINUTES.offset_s))
        lake.restart()
        asyncio.run(replay(lake, vendor))
        assert {(row.symbol, row.event_time): row.price for row in lake.told()} == vendor.served
        yield lake


@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_windows_that_coincide_with_bars_have_their_prices(replayed: FeedLake, bars: Bars, minutes: int) -> None:
    windows = replayed.windows.filter(pl.col("resolution_minutes") == minutes)
    found = {(row["symbol"], row["window_end"]): row for row in windows.iter_rows(named=True)}
    assert len(found) == windows.height
    for symbol in SYMBOLS:
        for start in range(0, MINUTES, minutes):
            inside = [bars[symbol, FIRST + (start + n) * MINUTE] for n in range(minutes)]
            row = found[symbol, FIRST + (start + minutes) * MINUTE]
            assert (row["first_price"], row["last_price"]) == (inside[0].open, inside[-1].close)
            assert row["max_price"] == max(bar.high for bar in inside)
            assert row["min_price"] == min(bar.low for bar in inside)
            assert row["quote_count"] == 4 * minutes
            assert math.isclose(row["percentage_gain"], (inside[-1].close / inside[0].open - 1) * 100, abs_tol=1e-9)
            mean = math.fsum(price for bar in inside for price in bar) / (4 * minutes)
            assert math.isclose(row["mean_price"], mean, rel_tol=1e-12)


def test_the_spike_is_in_its_minute_and_in_the_windows_around_it(replayed: FeedLake, bars: Bars) -> None:
    spike, start = max((bar.high, start) for (symbol, start), bar in bars.items() if symbol == "NIO")
    assert spike == 51.59
    windows = replayed.windows.filter((pl.col("symbol") == "NIO") & (pl.col("max_price") == spike))
    # It was told in one quote at the end of a window, which is in those that end later.
    numbers = windows.group_by("resolution_minutes").len().sort("resolution_minutes").rows()
    at = next(quote.event_time for quote in quotes_of("NIO", start, bars["NIO", start]) if quote.latest_price == spike)
    closed = replayed.windows["window_end"].max()
    assert isinstance(closed, datetime)
    later = [at + n * timedelta(seconds=10) for n in range(1, 91)]
    assert numbers == [(1, 6), (5, 30), (15, sum(end <= closed for end in later))]


def test_the_windows_are_those_of_plain_python_and_of_a_rebuild(replayed: FeedLake) -> None:
    assert_same(replayed.windows, closed_windows(replayed.told(), ON_MINUTES))
    assert replayed.derive_all(verify=True).rows_changed == 0


def test_between_the_minutes_the_usual_windows_say_the_same(replayed: FeedLake) -> None:
    """The same quotes in windows that end at :05, which the lake derives for anybody who asks as of now."""
    windows = replayed.rows("iex.quote_windows", datetime.now(UTC))
    assert_same(windows, closed_windows(replayed.told(), DEFAULT))

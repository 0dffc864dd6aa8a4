"""A vendor that answers in JSON, page by page: its bars are loaded, corrected and read as any others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import yaml

from assets_tests.support.described import resolved
from assets_tests.support.scripted_vendor import Reply, Vendor, running
from lakehouse.api import Lake
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import load

DAYS = [date(2024, 3, 4), date(2024, 3, 5)]
PAGE = 40
SOURCE = """
source: coins
description: Hourly bars of a crypto exchange, as its REST API pages through them
venue: {mic: XXXX, name: An exchange, country: US, time_zone: UTC, currency: USD}
calendar: 24/7
first_session: 2024-03-01
api:
  url: http://127.0.0.1/candles
  key: {header: X-Api-Key, variable: COINS_API_KEY}
  symbols: [BTC]
  requests_per_minute: 60000
  error_members: {error: permanent}
  records: result.candles
  paging: {by: token, parameter: after, member: result.next}
bars:
  request: {symbol: "{symbol}", month: "{month}"}
  format: jsonl
  time: {columns: [time], format: epoch}
  interval: 1h
  columns: {open: ohlc.open, high: ohlc.high, low: ohlc.low, close: ohlc.close, volume: size}
  constants: {currency: USD}
  named: {instrument_id: symbol, symbol: symbol}
"""


class Exchange(Vendor):
    """Answers with the candles of two days in pages of forty, numbers as JSON numbers."""

    def __init__(self) -> None:
        super().__init__()
        start = datetime(2024, 3, 4, tzinfo=UTC)
        self.candles = [
            {
                "time": int((start + hour * timedelta(hours=1)).timestamp()),
                "ohlc": {"open": 100.10 + hour, "high": 101.2 + hour, "low": 99.9 + hour, "close": 100.5 + hour},
                "size": 10 + hour,
            }
            for hour in range(48)
        ]
        self.breaks_after: int | None = None
        self.otherwise = self._answer

    def _answer(self, query: dict[str, str]) -> Reply:
        first = int(query.get("after", 0))
        if self.breaks_after is not None and first >= self.breaks_after:
            return Reply(resets=True)
        following = first + PAGE if first + PAGE < len(self.candles) else None
        result = {"candles": self.candles[first : first + PAGE], "next": following}
        return Reply(json.dumps({"result": result, "request_id": len(self.asked), "error": None}).encode())


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with running(Exchange()) as server:
        yield server


@pytest.fixture
def source(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> BarSource:
    monkeypatch.setenv("LAKEHOUSE_COINS_URL", exchange.url)
    monkeypatch.setenv("COINS_API_KEY", "a-key-in-a-header")
    return resolved(SourceConfig.model_validate(yaml.safe_load(SOURCE)))


def take(source: BarSource) -> Lake:
    lake = Lake.present()
    load(lake, source.bars, DAYS)
    derive_bars(lake, source, DAYS)
    derive_daily_bars(lake, source, DAYS)
    return lake


def daily(lake: Lake) -> list[tuple]:
    frame = lake.table("coins/daily_bars").to_polars().sort("session")
    return frame.select("session", "open", "high", "low", "close", "volume").rows()


def expected(exchange: Exchange) -> list[tuple]:
    """By a plain computation over the exchange's candles."""
    made = []
    for number, day in enumerate(DAYS):
        of_day = exchange.candles[24 * number : 24 * (number + 1)]
        made.append(
            (
                day,
                of_day[0]["ohlc"]["open"],
                max(each["ohlc"]["high"] for each in of_day),
                min(each["ohlc"]["low"] for each in of_day),
                of_day[-1]["ohlc"]["close"],
                sum(each["size"] for each in of_day),
            )
        )
    return made


def test_the_pages_of_an_answer_become_the_rows_of_one_object(exchange: Exchange, source: BarSource) -> None:
    lake = take(source)
    assert daily(lake) == expected(exchange)
    raw = lake.table("coins/raw_bars").to_polars()
    assert (raw.height, raw["object"].unique().to_list()) == (48, ["bars/2024-03/BTC"])
    assert {each["X-Api-Key"] for each in exchange.headers} == {"a-key-in-a-header"}

    # Another answer with the same candles is no news, though its envelope differs.
    versions = [lake.table(name).snapshot().version for name in ("coins/raw_bars", "ingest_ledger")]
    take(source)
    assert [lake.table(name).snapshot().version for name in ("coins/raw_bars", "ingest_ledger")] == versions


def test_a_corrected_candle_is_a_revision_of_its_day(exchange: Exchange, source: BarSource) -> None:
    take(source)
    exchange.candles[30]["ohlc"]["high"] = 500.25
    lake = take(source)
    assert daily(lake) == expected(exchange)
    assert lake.table("coins/raw_bars").to_polars().group_by("session").len().sort("session").rows() == [
        (DAYS[0], 24),
        (DAYS[1], 48),
    ]


def test_an_answer_whose_last_page_fails_is_not_landed(exchange: Exchange, source: BarSource) -> None:
    """Half of it would withdraw the rows of the other half."""
    lake = take(source)
    exchange.breaks_after, exchange.candles[0]["size"] = PAGE, 1_000
    source = resolved(
        source.config.model_copy(update={"api": source.config.api.model_copy(update={"max_attempts": 1})})
    )
    take(source)
    assert lake.table("ingest_ledger").to_polars().filter(pl.col("status") == "failed").height == 1
    assert daily(lake) == [(DAYS[0], *daily(lake)[0][1:5], sum(10 + hour for hour in range(24))), daily(lake)[1]]

    exchange.breaks_after = None
    assert daily(take(source)) == expected(exchange)


def test_a_record_that_is_no_candle_goes_to_the_quarantine(exchange: Exchange, source: BarSource) -> None:
    exchange.candles[3]["ohlc"] = None
    exchange.candles[4] = "maintenance"
    lake = take(source)
    assert lake.table("coins/raw_bars").to_polars().height == 46
    refused = lake.table("quarantine").to_polars().sort("row_number")
    assert refused["row_number"].to_list() == [4, 5]
    assert "the row is not a JSON object: it is not an object" in [
        reason for reasons in refused["reasons"] for reason in reasons
    ]

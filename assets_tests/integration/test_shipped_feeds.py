"""Every feed that ships as YAML streams from the simulated vendor that answers in its words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import yaml

from assets_tests.conftest import PROJECT_ROOT
from assets_tests.support.feed_lake import FeedLake, assert_served_and_stored
from assets_tests.support.window_reference import assert_same, closed_windows
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.domains.market.quotes.poller import Poller
from lakehouse.domains.market.quotes.resolve import feed_of
from lakehouse.settings import settings
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import RandomQuotes

VENDORS = PROJECT_ROOT / "lakehouse" / "vendors"
DESCRIBED = {path.stem: yaml.safe_load(path.read_text()) for path in VENDORS.glob("*.yaml")}
FEEDS = sorted(name for name, each in DESCRIBED.items() if each["type"].endswith(".QuoteFeed"))
START = datetime(2026, 3, 2, 15, tzinfo=UTC)
ROUNDS = 12
REQUESTS_A_ROUND = {"binance_quotes": 1}
"""Where one request has all symbols."""


def config_of(name: str) -> FeedConfig:
    return FeedConfig.model_validate(DESCRIBED[name]["attributes"])


def lake_of(name: str, vendor: QuoteFeed, patch: pytest.MonkeyPatch) -> FeedLake:
    """An empty lake of the feed alone, which asks the simulated vendor."""
    patch.setenv("FINNHUB_API_KEY", "the-key")
    patch.setenv(f"LAKEHOUSE_{name.upper()}_URL", vendor.url)
    settings.cache_clear()
    config = config_of(name)
    patch.setattr("lakehouse.catalog.sources", lambda _=None: {name: feed_of(config, settings())})
    return FeedLake(config)


def test_the_feeds_are_those_of_the_readme() -> None:
    assert FEEDS == ["binance_quotes", "coinbase_quotes", "finnhub"]


@pytest.mark.parametrize("name", FEEDS)
def test_a_feed_streams_from_its_simulator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = config_of(name).api.symbols
    with QuoteFeed(RandomQuotes(symbols, seed=3), token="the-key", start=START, speed=0) as vendor:
        lake = lake_of(name, vendor, monkeypatch)
        for number in range(ROUNDS):
            lake.tell(lake.ask(START + timedelta(seconds=10 * number)).heard)
            vendor.advance(10)
        assert_served_and_stored(lake, vendor.served)
        assert vendor.statuses[200] == ROUNDS * REQUESTS_A_ROUND.get(name, len(symbols))
    assert_same(lake.windows, closed_windows(lake.told()))
    assert set(lake.quotes["symbol"]) == set(symbols)
    assert lake.quarantine.is_empty()
    present = [column for column in config_of(name).columns.values() if column in ("bid", "ask", "volume")]
    assert lake.quotes.select(pl.all_horizontal(pl.col(present).is_not_null().all())).item() if present else True


def test_a_symbol_that_an_answer_about_all_lacks_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with QuoteFeed(RandomQuotes(("BTCUSDT",), seed=3), start=START, speed=0) as vendor:
        poller = Poller(lake_of("binance_quotes", vendor, monkeypatch).described)
    quote = {"symbol": "BTCUSDT", "lastPrice": "1.5", "closeTime": 1}
    heard = poller._quotes_in([quote, {"symbol": "OTHER"}, "no object"], poller.symbols, "", START)
    assert isinstance(heard, list)
    assert [(item.asked, item.document) for item in heard] == [("BTCUSDT", quote)]
    poller._lacking(poller.symbols, heard, START, 1)
    assert [error.symbol for error in poller.inbox.errors] == ["ETHUSDT", "SOLUSDT"]
    kind, text, _ = poller._quotes_in({"data": []}, poller.symbols, "{}", START)
    assert (kind, text) == ("passing", "an array of quotes was expected at the top, not {}")


def test_a_request_for_all_symbols_says_where_their_quotes_are() -> None:
    given = DESCRIBED["binance_quotes"]["attributes"]
    api = {name: entry for name, entry in given["api"].items() if name != "records"}
    with pytest.raises(ValueError, match="needs `records`"):
        FeedConfig.model_validate({**given, "api": api})
    with pytest.raises(ValueError, match="has no \\{symbol\\}"):
        FeedConfig.model_validate({**given, "request": {}})
    columns = {name: column for name, column in given["columns"].items() if column != "symbol"}
    with pytest.raises(ValueError, match="tells quotes of several symbols apart"):
        FeedConfig.model_validate({**given, "columns": columns})

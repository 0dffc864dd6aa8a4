"""Every sample answer of the IEX API, given as if it were the answer to a poll: a quote is stored, all else is refused
with a reason, and nothing stops the feed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assets_tests.support.feed_lake import EPOCH, SOURCE, FeedLake
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.parse import Heard, quote_rows, refused
from lakehouse.lake.engine import connect

SAID_AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> dict[str, object]:
    """Every sample by its name, and each of those that are in a list."""
    found: dict[str, object] = {}
    for path in sorted((shared_data / "iex" / "v1").rglob("*.json")):
        document = json.loads(path.read_text())
        found[path.stem] = document
        for number, member in enumerate(document if isinstance(document, list) else []):
            found[f"{path.stem} {number}"] = member
    assert len(found) > 60
    return found


@pytest.fixture
def lake() -> FeedLake:
    return FeedLake()


def answer(document: object, asked: str | None) -> Heard:
    return Heard(asked, json.dumps(document), document, SAID_AT)


def looks_like_a_quote(document: object) -> bool:
    """By the vendor's documentation: a symbol, the latest price, and when it was updated."""
    names = ("symbol", "latestPrice", "latestUpdate")
    return isinstance(document, dict) and None not in [document.get(name) for name in names]


def test_every_sample_is_stored_or_refused_with_a_reason(lake: FeedLake, samples: dict[str, object]) -> None:
    pushed = [answer(document, None) for document in samples.values()]
    good = {one.text for one in pushed if looks_like_a_quote(one.document)}
    assert len(good) == 1
    stored, _ = lake.tell(pushed)
    assert stored.received == len(samples) == stored.quotes.height + stored.repeated + stored.refused
    assert stored.quotes["symbol"].to_list() == ["BTCUSDT"]
    assert set(lake.quarantine["row"]) == {one.text for one in pushed} - good
    assert all(lake.quarantine["reasons"].list.len() > 0)
    versions = lake.versions()
    assert lake.store(pushed).refused == stored.refused
    assert lake.versions() == versions


def test_no_sample_is_taken_for_the_quote_of_another_symbol(lake: FeedLake, samples: dict[str, object]) -> None:
    polled = [answer(document, "IEXDEMO") for document in samples.values()]
    stored, _ = lake.tell(polled)
    assert stored.refused == stored.received == len(samples)
    assert set(lake.quarantine["object"]) == {"quotes/IEXDEMO"}
    assert all(lake.quarantine["reasons"].list.len() > 0)


@pytest.mark.parametrize("asked", ["IEXDEMO", None])
def test_each_sample_alone_is_read_as_one_row(samples: dict[str, object], asked: str | None) -> None:
    feed = feed_named(SOURCE)
    with connect("") as connection:
        for name, document in samples.items():
            rows = quote_rows([answer(document, asked)], feed, SAID_AT)
            taken = 0 not in refused(rows, feed, connection)
            assert rows.height == 1
            assert taken == (asked is None and looks_like_a_quote(document)), name


def test_the_sample_of_a_coin_is_a_quote(lake: FeedLake, samples: dict[str, object]) -> None:
    stored, _ = lake.tell([answer(samples["CryptoResponse"], "BTCUSDT")])
    (row,) = stored.quotes.to_dicts()
    kept = {name: value for name, value in row.items() if name not in ("published_at", "ingested_at", "day")}
    assert kept == {
        "symbol": "BTCUSDT", "latest_price": 6576.4, "event_time": EPOCH + timedelta(milliseconds=1_541_618_875_327),
        "volume": 15436.65675, "bid": None, "bid_size": None, "ask": None, "ask_size": None, "open": 6491.05,
        "high": 6615.15, "low": 6475.6, "previous_close": 6492.73,
    }  # fmt: skip

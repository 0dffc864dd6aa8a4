"""Lakes that tests fill from a quote vendor: the simulated vendor, a home with its settings, and what the service does
with each round of polls, called step by step as a notebook would.

Belongs here: what several test files ask of such a lake. What a correct lake holds is said by the tests, and by
`window_reference`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets_tests.support.window_reference import Told
from lakehouse.api import Lake
from lakehouse.catalog import feed_named
from lakehouse.derive.incremental import DeriveResult
from lakehouse.domains.market.quotes.batch import QuoteBatch
from lakehouse.domains.market.quotes.config import FeedConfig
from lakehouse.domains.market.quotes.derive import derive_windows
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.live import LiveWindows
from lakehouse.domains.market.quotes.parse import Heard
from lakehouse.domains.market.quotes.poller import Poller
from lakehouse.domains.market.quotes.resolve import feed_of
from lakehouse.domains.market.quotes.store import QuoteLog, Stored
from lakehouse.settings import settings
from lakehouse.simulators.quote_feed import QuoteFeed

SOURCE = "iex"
TOKEN = "T0K3N-0F-TH3-T3STS"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def said(symbol: str, event_time: datetime, price: object, /, **members: object) -> Heard:
    """An answer to a poll for `symbol` in the vendor's words; `members` change or add to it."""
    document = {
        "symbol": symbol,
        "latestPrice": price,
        "latestUpdate": (event_time - EPOCH) // timedelta(milliseconds=1),
        **members,
    }
    return Heard(symbol, json.dumps(document), document, datetime.now(UTC))


@dataclass
class FeedLake:
    """A lake of a feed's quotes, and who stores into it: `log` and `live`, until they are made anew by `restart`."""

    config: FeedConfig = field(default_factory=lambda: feed_named(SOURCE).config)
    lake: Lake = field(default_factory=Lake.open)

    @property
    def described(self) -> Feed:
        """The feed, by the settings of now; another one's description can be set."""
        return feed_of(self.config, settings())

    @described.setter
    def described(self, feed: Feed) -> None:
        self.config = feed.config

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.log, self.live = QuoteLog(self.lake, self.described), LiveWindows(self.lake, self.described)

    def restart(self) -> DeriveResult:
        """Forgets all that isn't in the lake, and catches up, as the service does when it starts."""
        self._begin()
        return self.live.catch_up()

    def store(self, heard: Iterable[Heard]) -> Stored:
        """Stores without making windows: what a service has done that is killed between the two commits."""
        return self.log.store(QuoteBatch(list(heard)))

    def tell(self, heard: Iterable[Heard]) -> tuple[Stored, DeriveResult]:
        """Stores, and makes windows."""
        stored = self.store(heard)
        return stored, self.live.advance(stored)

    def ask(self, slot_at: datetime, seconds: float = 5.0) -> QuoteBatch:
        """One round of polls; what it brought."""

        async def asking() -> QuoteBatch:
            async with Poller(self.described) as poller:
                await asyncio.gather(*poller.ask_all(slot_at, seconds))
                return poller.inbox.take()

        return asyncio.run(asking())

    def rows(self, name: str, as_of: datetime | None = None) -> pl.DataFrame:
        """A table's rows, by its SQL name, in the order of its key."""
        lake = Lake(self.lake.uri, as_of=as_of)
        return lake.sql(f"SELECT * FROM {name}").pl().sort(lake.table(name).contract.key)  # type: ignore[union-attr]

    def stored(self, table: str) -> pl.DataFrame:
        """The rows of one of the feed's tables as they stand, without SQL."""
        found = self.lake.table(self.described.table(table))
        # Before its first quote a feed has no table.
        return found.snapshot().scan().collect().sort(found.contract.key)

    @property
    def quotes(self) -> pl.DataFrame:
        return self.stored(QUOTES)

    @property
    def windows(self) -> pl.DataFrame:
        return self.stored(WINDOWS)

    @property
    def errors(self) -> pl.DataFrame:
        return self.stored(ERRORS)

    @property
    def quarantine(self) -> pl.DataFrame:
        return self.lake.table("quarantine").to_polars().sort("object", "object_version")

    def told(self) -> list[Told]:
        """What the lake knows, for `window_reference`."""
        columns = ("symbol", "event_time", "latest_price", "ingested_at")
        return [Told(*row) for row in self.quotes.select(columns).iter_rows()]

    def versions(self) -> dict[str, int | None]:
        """The Delta version of every table of the feed, and of the quarantine."""
        names = [*map(self.described.table, (QUOTES, WINDOWS, ERRORS)), "quarantine"]
        return {name: self.lake.table(name).snapshot().version for name in names}

    def derive_all(self, *, verify: bool = False) -> DeriveResult:
        """Derives every window that there can be from the quotes, as a rebuild does."""
        moments = self.quotes["event_time"]
        first, last = moments.min(), moments.max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        rule = self.described.config.windows.rule
        return derive_windows(
            self.lake, self.described, rule.next_end(first), rule.last_end(last + rule.longest), verify=verify
        )


def assert_served_and_stored(
    lake: FeedLake, served: Mapping[tuple[str, datetime], float], of: Sequence[str] = ()
) -> None:
    """What the vendor served is stored, once and with its price, and nothing else is (of these symbols, if any are
    named). An answer to a poll that was given up, since its slot was over, may have been on its way: as many of a
    symbol's quotes may be missing.
    """
    rows = lake.quotes.select("symbol", "event_time", "latest_price").rows()
    stored = {(symbol, moment): price for symbol, moment, price in rows if not of or symbol in of}
    assert lake.quotes.select("symbol", "event_time").is_duplicated().sum() == 0
    assert stored == {key: price for key, price in served.items() if key in stored}
    unfinished = Counter(lake.errors.filter(pl.col("kind") == "unfinished")["symbol"])
    missing = Counter(symbol for symbol, _ in served.keys() - stored.keys())
    assert missing <= unfinished, f"missing: {missing}, given up: {unfinished}"


@contextmanager
def polled(home: Path, feed: QuoteFeed, symbols: Sequence[str]) -> Iterator[FeedLake]:
    """A lake whose settings name this vendor, while the vendor runs."""
    with feed, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(home))
        patch.setenv("LAKEHOUSE_IEX_URL", feed.url)
        patch.setenv("LAKEHOUSE_IEX_SYMBOLS", ",".join(symbols))
        patch.setenv("IEX_TOKEN", TOKEN)
        settings.cache_clear()
        try:
            yield FeedLake()
        finally:
            settings.cache_clear()

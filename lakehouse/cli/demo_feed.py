"""The demo's quote feed: two minutes of quotes, with typical faults, in a few seconds."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta

from rich.console import Console

from lakehouse.api import Lake
from lakehouse.catalog import feed_named
from lakehouse.domains.market.quotes.ingest import Round
from lakehouse.domains.market.quotes.service import poll
from lakehouse.local_dagster.backfill import prepared_home
from lakehouse.local_dagster.feed_reports import report_rounds
from lakehouse.settings import settings
from lakehouse.simulators.quote_feed import QuoteFeed
from lakehouse.simulators.quote_source import RandomQuotes

FEED = "iex"
_SECONDS = 120
_SPEED = 40
_FAULTS = {"http_500": 0.03, "reset": 0.02, "late": 0.03, "repeated": 0.03, "null_price": 0.02}


def play_feed(console: Console, seed: int) -> None:
    """Polls a feed whose token is the environment's, and prints what was stored and the latest gains."""
    prepared_home(settings())
    usual = feed_named(FEED).config
    symbols, interval_s = usual.api.symbols, usual.poll_interval_s
    start = datetime.now(UTC) - timedelta(minutes=10)
    console.print(f"\nA feed of {len(symbols)} symbols runs by, {_SPEED} times as fast", highlight=False)
    quotes, token = RandomQuotes(symbols, seed=seed), os.environ["IEX_TOKEN"]
    with QuoteFeed(quotes, token=token, start=start, speed=_SPEED, faults=_FAULTS, seed=seed) as vendor:
        os.environ["LAKEHOUSE_IEX_URL"] = vendor.url
        made: list[Round] = []
        # The vendor's URL is known only now.
        feed = feed_named(FEED).changed(poll_interval_s=interval_s / _SPEED)
        rounds = int(_SECONDS / interval_s)
        totals = asyncio.run(poll(Lake.present(), feed, asyncio.Event(), rounds=rounds, told=made.append))
    report_rounds(feed, made)
    console.print(
        f"[bold]{FEED}[/]: {totals.stored:,} quotes stored, {totals.repeated:,} repeated, {totals.refused:,} refused, "
        f"{totals.errors:,} tries without an answer; the latest closed minute:",
        highlight=False,
    )
    rows = Lake.open().sql(
        f"SELECT symbol, mean_price, last_price, percentage_gain FROM {FEED}.quote_windows "
        "WHERE resolution_minutes = 1 QUALIFY window_end = max(window_end) OVER () "
        "ORDER BY percentage_gain DESC NULLS LAST, symbol LIMIT 3"
    )
    assert rows is not None
    for symbol, mean, last, gain in rows.fetchall():
        console.print(f"  {symbol:<6} mean {mean:>9.2f}  last {last:>9.2f}  {gain:+.2f} %", highlight=False)

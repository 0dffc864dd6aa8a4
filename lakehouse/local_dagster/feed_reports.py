"""Reports a running feed to Dagster: one materialization per table and minute, so that the pages show lag and counts
and the freshness checks fail when the feed stops.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import dagster as dg

from lakehouse.api import Lake
from lakehouse.components.sources.extent import note_unknown_extents
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.ingest import Round, Totals
from lakehouse.local_dagster.instance import opened_instance, storage_faults_explained


def report_rounds(feed: Feed, rounds: Iterable[Round]) -> None:
    """Reports finished rounds together."""
    reports = FeedReports(feed)
    for made in rounds:
        reports.add(made)
    reports.close()


class FeedReports:
    """Sums up rounds and reports them. Not thread-safe.

    Raises (wherever it reports):
        HomeUnavailable: Dagster's storage can't be written.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        with storage_faults_explained():
            self._instance = opened_instance()
        # Well below the time after which the feed counts as stopped.
        self._every_s = min(60.0, feed.config.freshness_s / 2)
        self._since = Totals()
        self._newest: Round | None = None
        self._last = -self._every_s

    def add(self, made: Round) -> None:
        """Adds a round, and reports if a report is due."""
        if made.trouble is not None and not made.received:
            return
        self._since.add(made)
        self._newest = made
        if time.monotonic() - self._last >= self._every_s:
            self._report()

    def close(self) -> None:
        """Reports the remaining rounds."""
        if self._newest is not None:
            self._report()
        note_unknown_extents(Lake.present(), [self._feed])
        self._instance.dispose()

    def _report(self) -> None:
        assert self._newest is not None
        since, newest = self._since, self._newest
        lag = {} if newest.lag is None else {"lag_s": round(newest.lag.total_seconds(), 3)}
        closed = newest.closed_through
        through = {} if closed is None else {"closed_through": dg.TimestampMetadataValue(closed.timestamp())}
        self._last, self._since, self._newest = time.monotonic(), Totals(), None
        # Rejected answers don't keep a feed fresh.
        if since.stored + since.repeated:
            counts = {"quotes_stored": since.stored, "quotes_repeated": since.repeated, "quotes_refused": since.refused}
            seconds = {"seconds_to_store": round(newest.seconds, 3)}
            self._tell(QUOTES, newest.slot_at, {"rounds": since.rounds, **counts, **lag, **seconds})
        if since.errors:
            self._tell(ERRORS, newest.slot_at, {"rounds": since.rounds, "tries_without_an_answer": since.errors})
        if since.windows and closed is not None:
            self._tell(WINDOWS, closed, {"windows_changed": since.windows, **through})

    def _tell(self, table: str, moment: datetime, metadata: dict[str, Any]) -> None:
        news = dg.AssetMaterialization([self._feed.name, table], partition=moment.date().isoformat(), metadata=metadata)
        with storage_faults_explained():
            self._instance.report_runless_asset_event(news)

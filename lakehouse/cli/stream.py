"""Runs the feed service for the command line until a signal arrives, prints its progress and reports to Dagster.

Rounds belong in the quotes' `service`, reports to Dagster in `lakehouse.local_dagster.feed_reports`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape

from lakehouse.api import Lake
from lakehouse.domains.market.quotes.feed import ERRORS, Feed
from lakehouse.domains.market.quotes.ingest import Round, Totals
from lakehouse.domains.market.quotes.service import listen, poll
from lakehouse.local_dagster.backfill import prepared_home
from lakehouse.local_dagster.instance import storage_errors
from lakehouse.settings import settings

if TYPE_CHECKING:
    from lakehouse.local_dagster.feed_reports import FeedReports

_SECONDS_BETWEEN_LINES = 60.0


def run_stream(
    console: Console, feed: Feed, *, rounds: int | None, poll_interval_s: float | None, listens: bool
) -> Totals:
    """Ingests a feed until SIGINT or SIGTERM, or for `rounds` rounds; finishes the current round.

    Raises:
        SourceError: the settings are invalid.
        FeedStopped: the lake has been unavailable for so long that quotes would be lost.
    """
    if poll_interval_s is not None:
        feed = feed.changed(poll_interval_s=poll_interval_s)
    run = listen if listens else poll

    async def until_stopped(told: _Told) -> Totals:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, stop.set)
        return await run(Lake.present(), feed, stop, rounds=rounds, told=told)

    prepared_home(settings())
    with _Told(console, feed) as told:
        what = "listens" if listens else f"polls every {feed.config.poll_interval_s:g} s"
        console.print(f"{feed.name} {what}; Ctrl-C finishes the round and stops", highlight=False)
        totals = asyncio.run(until_stopped(told))
    console.print(
        f"{totals.rounds:,} round{'' if totals.rounds == 1 else 's'}: {totals.stored:,} quotes stored, "
        f"{totals.repeated:,} repeated, {totals.refused:,} refused, {totals.errors:,} tries without an answer; "
        f"{totals.windows:,} rows of windows",
        highlight=False,
    )
    return totals


class _Told:
    """Prints the progress of the rounds and reports them to Dagster in a separate thread: neither may delay a round."""

    def __init__(self, console: Console, feed: Feed) -> None:
        self._console, self._feed = console, feed
        self._since = Totals()
        self._last = -_SECONDS_BETWEEN_LINES
        self._error: str | None = None
        self._reporter = ThreadPoolExecutor(1, thread_name_prefix="reports")
        self._reports = self._reporter.submit(_reports, feed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._reporter.submit(lambda: self._reports.result().close()).result()
        except storage_errors() as fault:
            # The quotes are stored even if Dagster's storage fails.
            self._console.print(
                f"[yellow]Dagster's pages lack the last rounds:[/] {escape(str(fault))}", highlight=False
            )
        self._reporter.shutdown()

    def __call__(self, made: Round) -> None:
        if made.trouble is not None:
            self._console.print(f"[yellow]{made.slot_at:%H:%M:%S}[/] {escape(made.trouble)}", highlight=False)
        if made.error is not None and self._error is None:
            # Print only the first of a series of errors.
            self._console.print(
                f"[yellow]{made.slot_at:%H:%M:%S}[/] {escape(made.error)} (all errors: {self._feed.table(ERRORS)})",
                highlight=False,
            )
        self._error = made.error or self._error
        self._since.add(made)
        if self._since.rounds and time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._print(made)
        self._reporter.submit(lambda: self._reports.result().add(made))

    def _print(self, made: Round) -> None:
        lag = f", lag {made.lag.total_seconds():.1f} s" if made.lag is not None else ""
        self._console.print(
            f"{made.slot_at:%H:%M:%S} {self._since.stored:,} quotes, {self._since.repeated:,} repeated, "
            f"{self._since.refused:,} refused, {self._since.errors:,} errors"
            f"{f' (the last: {escape(self._error)})' if self._since.errors and self._error else ''}{lag}",
            highlight=False,
        )
        self._since, self._last = Totals(), time.monotonic()


def _reports(feed: Feed) -> FeedReports:
    # Importing Dagster takes two seconds: the first rounds don't wait for it.
    from lakehouse.local_dagster.feed_reports import FeedReports

    return FeedReports(feed)

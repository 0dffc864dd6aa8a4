"""Processes a round of received quotes: stores them, updates the windows and reports the counts.

Every transport uses it, in the service and in Dagster runs, so that all produce the same tables.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from lakehouse.domains.market.quotes.batch import QuoteBatch
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.live import LiveWindows
from lakehouse.domains.market.quotes.store import QuoteLog
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress


@dataclass(kw_only=True)
class Counts:
    """Counts of one or more rounds.

    Args:
        rounds: number of rounds; 0 for late answers.
        received: answers or messages: stored + repeated + refused.
        errors: failed poll attempts, and rounds in which the broker was unavailable.
        windows: rows of windows written, new or revised.
    """

    rounds: int = 0
    received: int = 0
    stored: int = 0
    repeated: int = 0
    refused: int = 0
    errors: int = 0
    windows: int = 0


@dataclass(kw_only=True)
class Round(Counts):
    """A stored round, or several that were stored together.

    Args:
        slot_at: start of the (last) slot; for pushed quotes, when they were received.
        closed_through: end of the last closed windows.
        lag: from the newest event time to its commit; None if nothing was new.
        seconds: duration of the commit.
        error: the last error, with its symbol.
        trouble: why quotes can't be received or stored, in part or at all; None if all is well.
    """

    slot_at: datetime
    closed_through: datetime | None = None
    lag: timedelta | None = None
    seconds: float = 0.0
    error: str | None = None
    trouble: str | None = None


@dataclass(kw_only=True)
class Totals(Counts):
    """The sums over all rounds."""

    @property
    def unanswered(self) -> bool:
        """Whether the vendor or broker never answered."""
        return self.errors > 0 and not self.received

    def add(self, made: Counts) -> None:
        """Adds counts."""
        for count in fields(Counts):
            setattr(self, count.name, getattr(self, count.name) + getattr(made, count.name))


class Intake:
    """Ingests a feed's batches, one after the other."""

    def __init__(self, lake: Lake, feed: Feed) -> None:
        self.lake, self.feed = lake, feed
        self._log = QuoteLog(lake, feed)
        self._windows = LiveWindows(lake, feed)

    def catch_up(self, progress: Progress = lambda *_: None) -> None:
        """Derives the windows that an earlier process left out."""
        self._windows.catch_up(progress)

    def take_in(self, slot_at: datetime, inbox: QuoteBatch, rounds: int = 1) -> Round:
        """Stores a batch, which covers `rounds` rounds, and writes the windows that it closes.

        Raises:
            LakeUnavailable: the lake doesn't answer. The same batch may be passed again.
        """
        started = time.monotonic()
        stored = self._log.store(inbox)
        with ExitStack() as failed:
            # After a failure the in-memory state may be incomplete: rebuild it from the tables.
            failed.callback(self._forget_windows)
            derived = self._windows.advance(stored)
            failed.pop_all()
        newest = stored.quotes["event_time"].max()
        return Round(
            slot_at=slot_at,
            rounds=rounds,
            received=stored.received,
            stored=stored.quotes.height,
            repeated=stored.repeated,
            refused=stored.refused,
            errors=stored.errors,
            windows=derived.rows_changed,
            closed_through=self._windows.closed_through,
            lag=stored.ingested_at - newest if isinstance(newest, datetime) else None,
            seconds=time.monotonic() - started,
            error=f"{inbox.errors[-1].symbol}: {inbox.errors[-1].error}" if inbox.errors else None,
        )

    def _forget_windows(self) -> None:
        self._windows = LiveWindows(self.lake, self.feed)


def now() -> datetime:
    """The current time (UTC)."""
    return datetime.now(UTC)

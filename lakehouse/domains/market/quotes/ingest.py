"""What a round does once its quotes have come: store them, bring the windows up, say what it was.

The same for every transport, for the service and for a run in Dagster, so that all give the same tables.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.live import LiveWindows
from lakehouse.domains.market.quotes.poller import QuoteBatch
from lakehouse.domains.market.quotes.store import QuoteLog
from lakehouse.lake.lake import Lake
from lakehouse.progress import Progress


@dataclass(kw_only=True)
class Counts:
    """What one round brought, or several.

    Args:
        rounds: how many; 0 for what came late to one.
        received: answers or messages: stored + repeated + refused.
        errors: tries of polls that brought nothing, and rounds of listening to a broker that is in trouble.
        windows: rows of windows made or made anew.
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
    """A round that is stored, or several that were stored together.

    Args:
        slot_at: the (last) moment on the clock; of pushed quotes, when they were taken up.
        closed_through: the end of the last closed windows.
        lag: from the newest quote's update to its commit; None where nothing was new.
        seconds: that the storing took.
        error: the last of the errors, with its symbol.
        trouble: what is wrong: why nothing could be stored, or heard, or why it can't all be; None where nothing is.
    """

    slot_at: datetime
    closed_through: datetime | None = None
    lag: timedelta | None = None
    seconds: float = 0.0
    error: str | None = None
    trouble: str | None = None


@dataclass(kw_only=True)
class Totals(Counts):
    """Rounds added up."""

    @property
    def unanswered(self) -> bool:
        """Whether the vendor or broker was asked and never answered."""
        return self.errors > 0 and not self.received

    def add(self, made: Counts) -> None:
        """Adds counts."""
        for count in fields(Counts):
            setattr(self, count.name, getattr(self, count.name) + getattr(made, count.name))


class Intake:
    """Takes a feed's inboxes in, one after the other."""

    def __init__(self, lake: Lake, feed: Feed) -> None:
        self.lake, self.feed = lake, feed
        self._log = QuoteLog(lake, feed)
        self._windows = LiveWindows(lake, feed)

    def catch_up(self, progress: Progress = lambda *_: None) -> None:
        """Goes on where the windows were left."""
        self._windows.catch_up(progress)

    def take_in(self, slot_at: datetime, inbox: QuoteBatch, rounds: int = 1) -> Round:
        """Stores an inbox, of so many rounds, and makes the windows that it closes.

        Raises:
            LakeUnavailable: the lake doesn't answer. The same inbox may be taken in again.
        """
        started = time.monotonic()
        stored = self._log.store(inbox)
        with ExitStack() as failed:
            # What was half taken up is taken up again from the tables.
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
    """The moment on the clock (UTC)."""
    return datetime.now(UTC)

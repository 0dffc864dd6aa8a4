"""What a round does once its quotes have come: store them, bring the windows up, say what it was.

The same for every transport, for the service and for a run in Dagster, so that all give the same tables.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from lakehouse.lake.lake import Lake
from lakehouse.pipeline.live_windows import LiveWindows
from lakehouse.pipeline.quotes import QuoteLog
from lakehouse.progress import Progress
from lakehouse.sources.feed import FeedConfig
from lakehouse.sources.poller import Inbox


@dataclass(kw_only=True)
class Counts:
    """What one round brought, or several.

    Args:
        received: answers or messages: stored + repeated + refused.
        errors: tries of polls that brought nothing.
        windows: rows of windows made or made anew.
    """

    received: int = 0
    stored: int = 0
    repeated: int = 0
    refused: int = 0
    errors: int = 0
    windows: int = 0


@dataclass(kw_only=True)
class Round(Counts):
    """A round that is stored.

    Args:
        slot_at: its moment on the clock; of pushed quotes, when they were taken up.
        closed_through: the end of the last closed windows.
        lag: from the newest quote's update to its commit; None where nothing was new.
        seconds: that the storing took.
        trouble: why nothing could be stored, or heard; None where it could.
    """

    slot_at: datetime
    closed_through: datetime | None = None
    lag: timedelta | None = None
    seconds: float = 0.0
    trouble: str | None = None


@dataclass(kw_only=True)
class Totals(Counts):
    """Rounds added up."""

    rounds: int = 0

    def add(self, made: Round) -> None:
        """Counts a round."""
        self.rounds += 1
        for count in fields(Counts):
            setattr(self, count.name, getattr(self, count.name) + getattr(made, count.name))


class Intake:
    """Takes a feed's inboxes in, one after the other."""

    def __init__(self, lake: Lake, feed: FeedConfig) -> None:
        self.lake, self.feed = lake, feed
        self._log = QuoteLog(lake, feed)
        self._windows = LiveWindows(lake, feed)

    def catch_up(self, progress: Progress = lambda *_: None) -> None:
        """Goes on where the windows were left."""
        self._windows.catch_up(progress)

    def take_in(self, slot_at: datetime, inbox: Inbox) -> Round:
        """Stores an inbox, and makes the windows that it closes.

        Raises:
            LakeUnavailable: the lake doesn't answer. The same inbox may be taken in again.
        """
        started = time.monotonic()
        stored = self._log.store(inbox)
        try:
            derived = self._windows.advance(stored)
        except Exception:
            # What was half taken up is taken up again from the tables.
            self._windows = LiveWindows(self.lake, self.feed)
            raise
        newest = stored.quotes["event_time"].max()
        return Round(
            slot_at=slot_at,
            received=stored.received,
            stored=stored.quotes.height,
            repeated=stored.repeated,
            refused=stored.refused,
            errors=stored.errors,
            windows=derived.rows_changed,
            closed_through=self._windows.closed_through,
            lag=stored.ingested_at - newest if isinstance(newest, datetime) else None,
            seconds=time.monotonic() - started,
        )


def now() -> datetime:
    """The moment on the clock (UTC)."""
    return datetime.now(UTC)

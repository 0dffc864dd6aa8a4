"""Summarises the state of a feed for `lakehouse status`: what is stored, how recent it is, and what failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lakehouse.derive.status import quarantine_by_reason
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.store import last_of_its_slot
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal, timestamp_literal

_RECENT = timedelta(hours=1)


@dataclass(frozen=True)
class FeedStatus:
    """One feed's state; times are UTC, None if there is no data yet.

    Args:
        days: days with quotes.
        newest_quote: the latest event time.
        last_commit: time of the last commit of quotes.
        closed_through: end of the last closed windows.
        unanswered: symbol -> rounds without an answer in the hour before the last round.
        quarantine: reasons for rejected answers, with their row counts.
    """

    source: str
    quotes: int
    days: list[str]
    newest_quote: datetime | None
    last_commit: datetime | None
    closed_through: datetime | None
    unanswered: dict[str, int]
    quarantine: list[dict[str, object]]


def feed_status(lake: Lake, feed: Feed) -> FeedStatus:
    """Reads a feed's tables; sends no request to the vendor."""
    quotes, windows, errors = (
        lake.table(feed.table(table)).snapshot() for table in (QUOTES, WINDOWS, ERRORS)
    )  # fmt: skip
    days = quotes.partition_values("day")
    with lake.connect() as connection:

        def one(query: str) -> tuple[datetime | None, ...]:
            row = connection.execute(query).fetchone()
            assert row is not None
            return row

        newest, committed = one(f"SELECT max(event_time), max(ingested_at) FROM ({quotes.select({'day': days[-1:]})})")
        closed_on = windows.partition_values("day")[-1:]
        (closed,) = one(f"SELECT max(window_end) FROM ({windows.select({'day': closed_on})})")
        unanswered: dict[str, int] = {}
        if asked := [moment for moment in (committed, errors.max_value("slot_at")) if moment is not None]:
            since = max(asked) - _RECENT
            recent = f"day >= {literal(since.date())} AND slot_at >= {timestamp_literal(since)}"
            unanswered = dict(
                connection.execute(
                    f"""
                    SELECT symbol, count(DISTINCT slot_at) AS polls FROM ({errors.select_where(recent)})
                    WHERE {last_of_its_slot(feed)} GROUP BY symbol ORDER BY polls DESC, symbol
                    """
                ).fetchall()
            )
    return FeedStatus(
        feed.name,
        0 if quotes.delta is None else quotes.delta.count(),
        days,
        newest,
        committed,
        closed,
        unanswered,
        quarantine_by_reason(lake, feed.name),
    )

"""The state of the quote feeds: what comes in, how late it is, and the newest prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lakehouse.api import Lake
from lakehouse.apps.charts.svg import bars, sparkline
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.reading import Row, rows
from lakehouse.catalog import sources_of
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.domains.market.quotes.monitor import FeedView, View
from lakehouse.domains.market.quotes.status import FeedStatus, feed_status

_SHOWN = 40
_MINUTES = 120
"""Minutes before the newest quote of which the quotes are counted."""


@dataclass(frozen=True)
class OfFeed:
    """What the page shows of a feed."""

    status: FeedStatus
    view: View
    symbols: list[Row]
    lengths: list[int]
    picture: str | None
    is_late: bool


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/feeds`."""
    now = datetime.now(UTC)
    loaded = lake.sources("feed")
    found = [_of_feed(lake, feed, now) for feed in sources_of("feed") if feed.name in loaded]
    return Answer("feeds.html", {"feeds": found, "now": now})


def is_late(feed: Feed, stored: FeedStatus, now: datetime) -> bool:
    """Whether the feed's last commit is older than its YAML allows."""
    return stored.last_commit is None or (now - stored.last_commit).total_seconds() > feed.config.freshness_s


def _of_feed(lake: Lake, feed: Feed, now: datetime) -> OfFeed:
    stored, view = feed_status(lake, feed), FeedView(lake, feed).look(now)
    lengths = sorted(feed.config.windows.resolutions_minutes)
    return OfFeed(
        stored, view, _symbols(view, lengths), lengths, _picture(lake, feed, stored), is_late(feed, stored, now)
    )


def _symbols(view: View, lengths: list[int]) -> list[Row]:
    shown: list[dict[str, Any]] = view.symbols.head(_SHOWN).to_dicts()
    for each in shown:
        each["spark"] = sparkline(each["history"] or [], f"the last prices of {each['symbol']}")
        each["gains"] = [each[f"gain_{minutes}"] for minutes in lengths]
    return shown


def _picture(lake: Lake, feed: Feed, stored: FeedStatus) -> str | None:
    """Quotes by the minute in which they were made, up to the newest."""
    if not stored.days:
        return None
    counted = rows(
        lake,
        f"""
        WITH recent AS (SELECT event_time FROM "{feed.name}".quotes WHERE day = DATE '{stored.days[-1]}'),
        counts AS (SELECT date_trunc('minute', event_time) AS minute, count(*) AS quotes FROM recent GROUP BY ALL)
        SELECT minute, coalesce(quotes, 0) AS quotes
        FROM (
            SELECT unnest(generate_series(
                greatest(min(minute), max(minute) - INTERVAL {_MINUTES} MINUTE), max(minute), INTERVAL 1 MINUTE
            )) AS minute FROM counts
        ) LEFT JOIN counts USING (minute) ORDER BY minute
        """,
    )
    labels = [f"{each['minute']:%H:%M}" for each in counted]
    return bars(labels, {"quotes": [each["quotes"] for each in counted]}, f"quotes a minute of {feed.name}", 180)

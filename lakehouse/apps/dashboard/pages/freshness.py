"""How recent each source's data is, against when it is expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lakehouse.api import Lake
from lakehouse.apps.dashboard.answer import Answer, Asked
from lakehouse.apps.dashboard.reading import age, utc
from lakehouse.catalog import domains_by_kind, sources
from lakehouse.derive.held_back import holds
from lakehouse.derive.source import Source
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.bars.status import publication_of
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.governance.described import described_tables
from lakehouse.governance.figures import Figures, figures


@dataclass(frozen=True)
class Fresh:
    """A source: when it was last written, how far its data reach, and whether that is late (None: nothing says)."""

    source: str
    domain: str
    expected: str
    written_at: datetime | None
    age: str
    rows: int
    bytes: int
    tables: int
    reaches: str
    is_late: bool | None
    behind: str

    @property
    def state(self) -> str:
        """As a word."""
        return "recorded" if self.is_late is None else "late" if self.is_late else "fresh"


def make(lake: Lake, asked: Asked) -> Answer:
    """The page `/freshness`."""
    now = datetime.now(UTC)
    found = freshness(lake, now)
    published = publication_of(lake)
    return Answer(
        "freshness.html",
        {
            "sources": found,
            "published": published,
            "published_age": age(published.at, now),
            "held": [str(hold) for hold in holds(lake)],
            "now": now,
        },
    )


def freshness(lake: Lake, now: datetime) -> list[Fresh]:
    """Every source that the lake has something of."""
    loaded, domains = set(lake.sources()), domains_by_kind()
    tables = [table for table in described_tables(lake) if table.schema in loaded and table.kind != "view"]
    stored = figures(lake, tables)
    found = []
    for source in sources().values():
        if source.name not in loaded:
            continue
        of_source = [
            stored[table.sql_name] for table in tables if table.schema == source.name and table.sql_name in stored
        ]
        found.append(_fresh(lake, source, domains[source.kind], of_source, now))
    return sorted(found, key=lambda each: (not each.is_late, each.domain, each.source))


def _fresh(lake: Lake, source: Source, domain: str, stored: list[Figures], now: datetime) -> Fresh:
    there = [each for each in stored if each.updated_at is not None]
    moments = [moment for each in there if (moment := utc(each.updated_at))]
    written_at = max(moments, default=None)
    reaches, late, behind = "", None, ""
    if isinstance(source, BarSource):
        reaches, late, behind = _of_sessions(lake, source, now)
    elif isinstance(source, Feed):
        late = written_at is None or (now - written_at).total_seconds() > source.config.freshness_s
        behind = f"nothing for more than {source.config.freshness_s:g} s" if late else ""
    return Fresh(
        source=source.name,
        domain=domain,
        expected=source.freshness,
        written_at=written_at,
        age=age(written_at, now),
        rows=sum(each.rows or 0 for each in there),
        bytes=sum(each.bytes or 0 for each in there),
        tables=len(there),
        reaches=reaches,
        is_late=late,
        behind=behind,
    )


def _of_sessions(lake: Lake, source: BarSource, now: datetime) -> tuple[str, bool | None, str]:
    """The last session, and the sessions that have been over for a day and aren't there."""
    table = source.table("daily_bars" if source.has_bars else "official_daily")
    last = lake.table(table).snapshot().max_value("session")
    if not isinstance(last, date):
        return "nothing yet", True, "no session is loaded"
    last = last.date() if isinstance(last, datetime) else last
    yesterday = (now - timedelta(days=1)).date()
    absent = len(source.calendar.between(last + timedelta(days=1), yesterday)) if last < yesterday else 0
    return f"session {last}", absent > 0, f"{absent:,} later sessions are over" if absent else ""

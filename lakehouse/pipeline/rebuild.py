"""Rebuilding a source's tables from its raw tables alone, a feed's windows from its quotes, or verifying that they are
what a rebuild would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from lakehouse.lake.lake import Lake
from lakehouse.pipeline.changes import Derived
from lakehouse.pipeline.derive import derive_bars, derive_daily_bars
from lakehouse.pipeline.derive_official import OFFICIAL_TABLES, derive_official
from lakehouse.pipeline.windows import derive_windows
from lakehouse.progress import Progress
from lakehouse.sources.config import SourceConfig
from lakehouse.sources.feed import QUOTES, WINDOWS, FeedConfig


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild changed (or, verifying, would change) in each table."""

    sessions: int
    tables: dict[str, Derived]

    @property
    def differs(self) -> bool:
        """Whether the stored tables were not what the raw tables give."""
        return any(derived.changed for derived in self.tables.values())


def stored_sessions(lake: Lake, config: SourceConfig) -> list[date]:
    """Every session that any table of the source has rows of, ascending."""
    found: set[date] = set()
    for name in ("raw_bars", "bars"):
        found |= {
            date.fromisoformat(value) for value in lake.table(config.table(name)).snapshot().partition_values("session")
        }
    found |= set(
        lake.table(config.table("daily_bars")).scan().select("session").unique().collect()["session"].to_list()
    )
    return sorted(found)


def rebuild(lake: Lake, config: SourceConfig, *, verify: bool = False, progress: Progress = lambda *_: None) -> Rebuilt:
    """Derives the source's tables of every session again and writes what differs; with `verify` it only compares."""
    sessions = stored_sessions(lake, config)
    tables = {
        "bars": derive_bars(lake, config, sessions, verify=verify, progress=progress),
        "daily_bars": derive_daily_bars(lake, config, sessions, verify=verify, progress=progress),
    }
    if config.official_daily is not None:
        tables |= {table: derive_official(lake, config, table, verify=verify) for table in OFFICIAL_TABLES}
    return Rebuilt(len(sessions), tables)


def rebuild_feed(
    lake: Lake, feed: FeedConfig, *, verify: bool = False, progress: Progress = lambda *_: None
) -> Rebuilt:
    """Derives the feed's windows of every day again and writes what differs; with `verify` it only compares."""
    snapshots = [lake.table(feed.table(table)).snapshot() for table in (QUOTES, WINDOWS)]
    days = sorted({date.fromisoformat(day) for snapshot in snapshots for day in snapshot.partition_values("day")})
    # The windows of a day's last quotes end on the next one.
    days += [days[-1] + timedelta(days=1)] if days else []
    result = Derived()
    for day in days:
        ends = feed.windows.rule.ends_of(day)
        result += derive_windows(lake, feed, *ends, verify=verify, progress=progress)
    return Rebuilt(len(days), {WINDOWS: result})

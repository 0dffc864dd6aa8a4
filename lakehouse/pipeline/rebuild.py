"""Rebuilding a source's tables from raw_bars alone, or verifying that they are what a rebuild would give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from lakehouse.lake.lake import Lake
from lakehouse.pipeline.derive import Derived, derive_bars, derive_daily_bars
from lakehouse.progress import Progress
from lakehouse.sources.config import BarFileConfig


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild changed (or, verifying, would change) in each table."""

    sessions: int
    bars: Derived
    daily_bars: Derived

    @property
    def differs(self) -> bool:
        """Whether the stored tables were not what raw_bars gives."""
        return bool(self.bars.changed or self.daily_bars.changed)


def stored_sessions(lake: Lake, config: BarFileConfig) -> list[date]:
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


def rebuild(
    lake: Lake, config: BarFileConfig, *, verify: bool = False, progress: Progress = lambda *_: None
) -> Rebuilt:
    """Derives bars and daily bars of every session again and writes what differs; with `verify` it only compares."""
    sessions = stored_sessions(lake, config)
    bars = derive_bars(lake, config, sessions, verify=verify, progress=progress)
    return Rebuilt(len(sessions), bars, derive_daily_bars(lake, config, sessions, verify=verify, progress=progress))

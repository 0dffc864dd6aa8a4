"""A vendor of plain CSV files, one an instrument and day, in one process: files are put in a folder, loaded, and the
lake is asked about them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from assets_tests.support.described import resolved
from lakehouse.api import Lake
from lakehouse.derive.source import Finding
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import LoadResult, load

CRYPTO = {
    "venue": {"mic": "XCRY", "name": "A crypto exchange", "country": "US", "time_zone": "UTC", "currency": "USD"},
    "calendar": "24/7",
}


@dataclass
class MinuteFiles:
    """The folder and the lake that loads it. `entries` are those of the YAML that differ from a crypto exchange's."""

    folder: Path
    entries: dict[str, Any]

    @classmethod
    def below(cls, home: Path, patch: pytest.MonkeyPatch, **entries: Any) -> Self:
        """An empty folder below `home`, and a lake that was never written and knows this source alone."""
        folder = home / "vendor"
        folder.mkdir()
        made = cls(folder, entries)
        patch.setattr("lakehouse.catalog.sources", lambda _=None: {made.source.name: made.source})
        return made

    @property
    def lake(self) -> Lake:
        """The lake, as its registry would be now."""
        return Lake.open()

    @property
    def source(self) -> BarSource:
        """The source, by the settings of now."""
        bars = {
            "objects": {
                "url": str(self.folder),
                "pattern": r"(?P<symbol>[^/]+)_(?P<date>\d{4}-\d{2}-\d{2})\.csv",
                "holds": "day",
            },
            "format": "csv",
            "time": {"columns": ["ts"], "format": "%Y-%m-%d %H:%M:%S", "label": "start", "zone": "UTC"},
            "interval": "1min",
            "columns": {name: name for name in ("open", "high", "low", "close", "volume")},
            "constants": {"currency": "USD"},
            "named": {"instrument_id": "symbol", "symbol": "symbol"},
        }
        told = {"source": "minutes", "description": "Minutes", "first_session": date(2024, 1, 1), **CRYPTO}
        return resolved(SourceConfig.model_validate({**told, "bars": bars, **self.entries}))

    def put(self, symbol: str, day: date, starts: Iterable[datetime], *, price: float = 100.0) -> Path:
        """Writes the file of an instrument and day, whose bars begin at these moments (UTC)."""
        path = self.folder / f"{symbol}_{day}.csv"
        lines = [f"{start:%Y-%m-%d %H:%M:%S},{price},{price + 1},{price - 1},{price},7" for start in starts]
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text("\n".join(["ts,open,high,low,close,volume", *lines, ""]))
        os.utime(path, ns=(max(before, int(datetime.now(UTC).timestamp() * 1e9)) + 1_000_000_000,) * 2)
        return path

    def take(self, days: Sequence[date]) -> LoadResult:
        """Loads and derives these days."""
        loaded = load(self.lake, self.source.bars, days)
        derive_bars(self.lake, self.source, days)
        derive_daily_bars(self.lake, self.source, days)
        return loaded

    def check(self, name: str, days: Sequence[date] | None = None) -> Finding:
        """The outcome of a check."""
        found = next(check for check in self.source.checks if check.name == name)
        return found.run(self.lake, self.source, days)

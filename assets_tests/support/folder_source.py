"""A folder of Xetra's hourly objects for tests in one process: objects are put there with a time of their own, loaded,
and the lake is asked about them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

import pytest

from assets_tests.support.described import resolved
from assets_tests.support.reference import HEADER, csv_line, isin
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive.conservation import COUNTS
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.ingest.load import LoadResult, load

DAY = date(2017, 7, 7)
PUBLISHED = datetime(2017, 7, 8, tzinfo=UTC)


def bar_line(minute: int, price: float = 10.0, hour: int = 8, **values: str) -> str:
    """A sound bar of the day's hour, as its line."""
    row = {
        "ISIN": isin("DE000SIM000"),
        "Mnemonic": "SIM",
        "SecurityDesc": "SIM AG",
        "SecurityType": "Common stock",
        "Currency": "EUR",
        "SecurityID": "1",
        "Date": str(DAY),
        "Time": f"{hour:02}:{minute:02}",
        **dict.fromkeys(("StartPrice", "MaxPrice", "MinPrice", "EndPrice"), str(price)),
        "TradedVolume": "100",
        "NumberOfTrades": "1",
    }
    return csv_line(tuple((row | values).values()))


class Killed(BaseException):
    """The process ends here."""


@dataclass
class FolderSource:
    """The folder and the lake that loads it."""

    folder: Path
    lake: Lake = field(default_factory=Lake.open)
    config: SourceConfig = field(default_factory=lambda: source_named("xetra").config)

    @property
    def described(self) -> BarSource:
        """The source, by the settings of now; another one's description can be set."""
        return resolved(self.config)

    @described.setter
    def described(self, source: BarSource) -> None:
        self.config = source.config

    @classmethod
    def below(cls, home: Path, patch: pytest.MonkeyPatch) -> Self:
        """An empty folder below `home`, and a lake that was never written."""
        folder = home / "vendor"
        folder.mkdir()
        patch.setenv("LAKEHOUSE_XETRA_URL", str(folder))
        return cls(folder)

    def put(self, *lines: str, at: datetime = PUBLISHED, hour: int = 8) -> Path:
        """Writes the object of an hour, as of `at`."""
        path = self.folder / str(DAY) / f"{DAY}_BINS_XETR{hour:02}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in (",".join(HEADER), *lines)))
        os.utime(path, ns=(int(at.timestamp() * 1e9),) * 2)
        return path

    def take(self) -> LoadResult:
        """Loads and derives the day."""
        loaded = load(self.lake, self.described.bars, [DAY])
        derive_bars(self.lake, self.described, [DAY])
        derive_daily_bars(self.lake, self.described, [DAY])
        return loaded

    def closes(self, as_of: datetime | None = None) -> list[float]:
        """The closes of the day's bars in their order."""
        found = Lake.open(as_of=as_of).sql("SELECT close FROM xetra.bars ORDER BY start_at")
        assert found is not None
        return [close for (close,) in found.fetchall()]

    def counts(self) -> dict[str, int]:
        """The conservation law's counts; they have to add up."""
        sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in COUNTS)
        row = self.lake.sql(f"SELECT {sums} FROM lake.conservation")
        assert row is not None
        found = dict(zip(COUNTS, row.fetchone() or (), strict=True))
        assert found["received"] == sum(found[name] for name in COUNTS[1:])
        return found

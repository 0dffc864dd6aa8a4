"""Lakes that tests fill from the vendor's API: the simulated vendor, a home with its settings, and the steps of the
pipeline on it, called as a notebook would call them.

Belongs here: what several test files ask of such a lake. What a correct lake holds is said by the tests, and by
`vendor_reference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from assets_tests.support.described import resolved
from assets_tests.support.lakes import Lakehouse
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.corporate_actions.derive import OFFICIAL_TABLES, derive_official
from lakehouse.ingest.ledger import failed_objects, ledger_of
from lakehouse.ingest.load import LoadResult, load
from lakehouse.settings import settings
from lakehouse.simulators.us_market import UsMarket
from lakehouse.simulators.vendor_answers import DAILY, INTRADAY
from lakehouse.simulators.vendor_api import Request, VendorApi

SOURCE = "alpha_vantage"
KEY = "K3Y-0F-TH3-T3STS"
NEW_YORK = ZoneInfo("America/New_York")
TABLES = (
    *(f"{SOURCE}.{name}" for name in ("raw_bars", "bars", "daily_bars", "raw_daily")),
    *(f"{SOURCE}.{name}" for name in OFFICIAL_TABLES),
    *("lake.ingest_ledger", "lake.quarantine"),
)

# Two months, the end of daylight saving between them, and a half-day at the end.
DAYS = tuple(date(2020, *day) for day in ((10, 29), (10, 30), (11, 2), (11, 3), (11, 25), (11, 27)))
HALF_DAYS = frozenset({date(2020, 11, 27), date(2020, 12, 24)})


def hours(day: date) -> tuple[datetime, datetime]:
    """When the New York Stock Exchange opened and closed on `day`."""
    closing = time(13) if day in HALF_DAYS else time(16)
    return datetime.combine(day, time(9, 30), NEW_YORK), datetime.combine(day, closing, NEW_YORK)


def small_market(symbols: int = 3, *, days: Sequence[date] = DAYS, seed: int = 1, every: int = 25) -> UsMarket:
    """An invented market of which each symbol has but every twenty-fifth bar."""
    market = UsMarket([(day, *hours(day)) for day in days], seed=seed, symbols=symbols)
    for trading in market.trading.values():
        trading.bars = trading.bars.gather_every(every)
    return market


@dataclass
class VendorLake:
    """A lake beside a running vendor."""

    home: Path
    api: VendorApi
    variables: dict[str, str]
    config: SourceConfig = field(default_factory=lambda: source_named(SOURCE).config)

    @property
    def described(self) -> BarSource:
        """The source, by the settings of now; another one's description can be set."""
        return resolved(self.config)

    @described.setter
    def described(self, source: BarSource) -> None:
        self.config = source.config

    @property
    def cli(self) -> Lakehouse:
        """The same installation by the command line."""
        return Lakehouse(self.home, self.variables)

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Makes this process mean this lake."""
        for name, value in {"LAKEHOUSE_HOME": str(self.home), **self.variables}.items():
            patch.setenv(name, value)
        settings.cache_clear()

    @property
    def lake(self) -> Lake:
        return Lake.open()

    def load_bars(self, sessions: Sequence[date]) -> LoadResult:
        """Asks for the months of `sessions`, and loads what was answered."""
        return load(self.lake, self.described.bars, sessions)

    def load_official(self) -> LoadResult:
        """Asks for the official series, and loads what was answered."""
        assert self.described.official_daily is not None
        return load(self.lake, self.described.official_daily, DAYS[:1])

    def derive(self, sessions: Sequence[date]) -> None:
        """Derives what a load of `sessions` may have brought news about."""
        touched = self.described.together(self.lake, list(sessions))
        derive_bars(self.lake, self.described, touched)
        derive_daily_bars(self.lake, self.described, touched)
        for table in OFFICIAL_TABLES:
            derive_official(table, self.lake, self.described)

    def update(self, sessions: Sequence[date] = DAYS) -> dict[str, LoadResult]:
        """Loads and derives everything; what was loaded, by product."""
        loaded = {"bars": self.load_bars(sessions), "official_daily": self.load_official()}
        self.derive(sessions)
        return loaded

    def rows(self, name: str, as_of: datetime | None = None) -> pl.DataFrame:
        """A table's rows in the order of its key."""
        return _rows(Lake.open(as_of=as_of), name)

    def everything(self, as_of: datetime | None = None) -> dict[str, pl.DataFrame]:
        """Every table, and both series on the basis of the last of DAYS, by the names that SQL knows them by."""
        lake = Lake.open(as_of=as_of)
        found = {name: _rows(lake, name) for name in TABLES}
        for name in ("adjusted_daily_bars", "adjusted_official_daily"):
            query = f"FROM {SOURCE}.{name}(as_of := DATE '{DAYS[-1]}')"
            found[name] = lake.sql(query).pl().sort("instrument_id", "session")  # type: ignore[union-attr]
        return found

    def versions(self) -> dict[str, int | None]:
        """The Delta version of every table."""
        return {name: self.lake.table(name).snapshot().version for name in TABLES}

    def failed(self) -> dict[str, str]:
        """Object -> error, of those of which the last news was that they could not be read."""
        rows = failed_objects(ledger_of(self.lake, SOURCE)).iter_rows(named=True)
        return {row["object"]: row["error"] for row in rows}

    def asked(self, since: int = 0) -> list[Request]:
        """The requests that came to the vendor, from the one of that number on."""
        return self.api.requests[since:]


def _rows(lake: Lake, name: str) -> pl.DataFrame:
    return lake.sql(f"SELECT * FROM {name}").pl().sort(lake.table(name).contract.key)  # type: ignore[union-attr]


def object_name(symbol: str, month: str | None = None, *, adjusted: bool = False) -> str:
    """The name under which an answer is kept: of a month's bars, or of the official series."""
    return f"bars/{month}/adjusted={str(adjusted).lower()}/{symbol}" if month else f"official_daily/{symbol}"


def asked_for(request: Request) -> str:
    """The name of the object that a request's answer becomes."""
    assert request.function in (INTRADAY, DAILY)
    return object_name(request.symbol, request.month or None)


@contextmanager
def vendor_lake(home: Path, api: VendorApi, symbols: Sequence[str], *, adjusted: bool = False) -> Iterator[VendorLake]:
    """A lake whose settings name this vendor, in this process and for the command line, while the vendor runs."""
    with api, pytest.MonkeyPatch.context() as patch:
        variables = {
            "LAKEHOUSE_ALPHA_VANTAGE_URL": f"{api.url}/query",
            "LAKEHOUSE_ALPHA_VANTAGE_SYMBOLS": ",".join(symbols),
            "LAKEHOUSE_ALPHA_VANTAGE_ADJUSTED": str(adjusted).lower(),
            "ALPHA_VANTAGE_API_KEY": KEY,
        }
        made = VendorLake(home, api, variables)
        made.use(patch)
        try:
            yield made
        finally:
            settings.cache_clear()


def files_with(folder: Path, secret: bytes) -> list[Path]:
    """The files below `folder` in which `secret` stands, packed ones unpacked."""
    import gzip

    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            if secret in body or (path.suffix == ".gz" and secret in gzip.decompress(body)):
                found.append(path)
    return found

"""Warehouses that tests build with dbt over small lakes: rows written straight into the lake's tables, and a DuckDB
file that dbt builds from them in this process.

The project is parsed once: a build takes a second then.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest

from assets_tests.support import lakes
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive.source import Source
from lakehouse.domains.market.quotes.feed import Feed
from lakehouse.settings import PROJECT_ROOT, settings
from lakehouse.warehouse import sources as connection
from lakehouse.warehouse.dbt import manifest, variables
from lakehouse.warehouse.reading import reading

if TYPE_CHECKING:
    # Its import takes two seconds: of the workers only those that run dbt need it.
    from dbt.cli.main import dbtRunnerResult

PROJECT = PROJECT_ROOT / "dbt_project"
MARTS, VIEWS = (sorted(name.removeprefix("marts.") for name in names) for names in (lakes.MARTS, lakes.VIEWS))
FILES, VENDOR = "xetra", "alpha_vantage"
"""A source of bars alone, and one that has official daily rows and corporate actions too."""

TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, MONDAY = (date(2024, 1, day) for day in (2, 3, 4, 5, 8))
SATURDAY = date(2024, 1, 6)
_KNOWN = datetime(2024, 2, 1, tzinfo=UTC)


class Key(NamedTuple):
    """What a daily bar is of."""

    instrument_id: str
    session: date
    currency: str = "EUR"


class Bar(NamedTuple):
    """What the tests vary in a daily bar."""

    close: float = 10.0
    symbol: str = "AAA"
    volume: float | None = 100
    is_complete: bool | None = True
    adjusted_as_of: date | None = None


class Action(NamedTuple):
    """What the tests vary in a corporate action."""

    instrument_id: str
    ex_date: date
    kind: str
    value: float
    currency: str = "USD"
    symbol: str | None = None


class Place(NamedTuple):
    """Which window it is."""

    symbol: str
    window_end: datetime
    minutes: int = 1


class Window(NamedTuple):
    """What the tests vary in a window."""

    first: float = 10.0
    last: float = 10.0
    quote_count: int = 6
    revision: int = 1


Windows = Mapping[Place, Window]
Bars = Mapping[Key, Bar]
Closes = Mapping[Key, float]

WEEK: Bars = {
    Key("A", TUESDAY): Bar(10),
    Key("A", WEDNESDAY): Bar(11),
    Key("A", FRIDAY): Bar(12, symbol="BBB"),
    Key("A", TUESDAY, "USD"): Bar(20, volume=7),
    Key("B", TUESDAY): Bar(5, symbol="B"),
    Key("B", WEDNESDAY): Bar(4, symbol="B", volume=50),
    Key("B", THURSDAY): Bar(4.5, symbol="B"),
}


def write(bars: Bars, source: str = FILES) -> None:
    """Makes `bars` the whole content of a source's daily bars, with the columns that the lake derives."""
    rows = []
    for key, bar in sorted(bars.items()):
        series = [other for other in bars if other._replace(session=key.session) == key and other.session < key.session]
        previous = max(series, default=None)
        prev_close = bars[previous].close if previous else None
        first = datetime.combine(key.session, time(8), UTC)
        rows.append(
            {
                "year": key.session.replace(month=1, day=1),
                **key._asdict(),
                "symbol": bar.symbol,
                "name": f"{bar.symbol} AG",
                "instrument_type": "Common stock",
                "open": bar.close,
                "high": bar.close + 1,
                "low": bar.close - 1,
                "close": bar.close,
                "volume": bar.volume,
                "trades": 3,
                "turnover": None if bar.volume is None else bar.close * bar.volume,
                "vwap": None,
                "bar_count": 2,
                "first_bar_at": first,
                "last_bar_at": first.replace(hour=15),
                "adjusted_as_of": bar.adjusted_as_of,
                "prev_session": previous.session if previous else None,
                "prev_close": prev_close,
                "change_pct": (bar.close / prev_close - 1) * 100 if prev_close and prev_close > 0 else None,
                "is_complete": bar.is_complete,
            }
        )
    _overwrite(f"{source}/daily_bars", rows)


def write_official(closes: Closes, source: str = VENDOR) -> None:
    """Makes `closes` the whole content of a source's official daily rows; the volume is ten times the close."""
    rows = [
        {
            "year": key.session.replace(month=1, day=1),
            **key._asdict(),
            "symbol": key.instrument_id,
            **dict.fromkeys(("open", "high", "low", "close"), close),
            "volume": round(abs(close) * 10),
            "known_at": _KNOWN,
        }
        for key, close in closes.items()
    ]
    _overwrite(f"{source}/official_daily", rows)


def write_actions(actions: list[Action], source: str = VENDOR) -> None:
    """Makes `actions` the whole content of a source's corporate actions."""
    rows = [
        {
            "year": action.ex_date.replace(month=1, day=1),
            "instrument_id": action.instrument_id,
            "symbol": action.symbol or action.instrument_id,
            "currency": action.currency,
            "ex_date": action.ex_date,
            "kind": action.kind,
            "dividend_amount": action.value if action.kind == "dividend" else None,
            "split_coefficient": action.value if action.kind == "split" else None,
            "known_at": _KNOWN,
        }
        for action in actions
    ]
    _overwrite(f"{source}/corporate_actions", rows)


def write_windows(windows: Windows, feed: str = "iex") -> None:
    """Makes `windows` the whole content of a feed's closed windows, each with the mean of its first and last price."""
    _overwrite(f"{feed}/quote_windows", _rows_of(windows))


def append_windows(windows: Windows, feed: str = "iex") -> None:
    """Adds `windows` to those of a feed."""
    table = Lake.open().table(f"{feed}/quote_windows")
    rows = pa.Table.from_pylist(_rows_of(windows), schema=table.contract.arrow_schema)
    table.snapshot().append(rows, ["windows"])


def _rows_of(windows: Windows) -> list[dict[str, Any]]:
    return [
        {
            "resolution_minutes": place.minutes,
            "window_end": place.window_end,
            "symbol": place.symbol,
            "day": place.window_end.date(),
            "mean_price": (window.first + window.last) / 2,
            "first_price": window.first,
            "last_price": window.last,
            "min_price": min(window.first, window.last),
            "max_price": max(window.first, window.last),
            "quote_count": window.quote_count,
            "percentage_gain": 100 * (window.last - window.first) / window.first if window.first else None,
            "revision": window.revision,
            "closed_at": place.window_end + timedelta(seconds=25),
        }
        for place, window in windows.items()
    ]


def _overwrite(name: str, rows: list[dict[str, Any]]) -> None:
    table = Lake.open().table(name)
    table.snapshot().overwrite(pa.Table.from_pylist(rows, schema=table.contract.arrow_schema), where="true")


class Warehouse:
    """Builds a DuckDB file with dbt, in this process, over the tables of the named sources of market data, of `feeds`
    and of `others`, as of a moment or now.
    """

    def __init__(
        self,
        folder: Path,
        *sources: str,
        feeds: Sequence[Feed] = (),
        others: Sequence[Source] = (),
        as_of: datetime | None = None,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.sources = [*(source_named(name) for name in sources or (FILES,)), *feeds, *others]
        # The file's name is the name of its catalogue, which the manifest holds.
        self.path = folder / "warehouse.duckdb"
        self.as_of = as_of

    def dbt(self, *arguments: str) -> dbtRunnerResult:
        """One dbt command; the DuckDB file is closed when it returns."""
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        with self._named(), self._noted():
            try:
                return dbtRunner(manifest=manifest(settings())).invoke(
                    ["--quiet", *arguments, "--no-write-json", *_arguments(self.folder)]
                )
            finally:
                if DuckDBConnectionManager._ENV is not None:
                    DuckDBConnectionManager._ENV.close()
                DuckDBConnectionManager.close_all_connections()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """In the block dbt reads the lake as of the warehouse's moment."""
        if self.as_of is None:
            yield
            return
        with duckdb.connect(str(self.path)) as file, reading(file, {}, self.as_of):
            yield

    @contextmanager
    def _named(self) -> Iterator[None]:
        """In the block the plugin knows the warehouse's sources, and no others."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                connection, "sources_of", lambda kind, _: [each for each in self.sources if each.kind == kind]
            )
            yield

    def build(self, *arguments: str) -> dict[str, str]:
        """Builds and checks everything, or fails with what dbt said.

        Returns: check -> the query, as dbt ran it, for the rows that it objects to.
        """
        result = self.dbt("build", "--exclude-resource-type", "unit_test", *arguments)
        assert result.success, result.exception or [(r.node.name, r.message) for r in result.result if r.message]
        checks = [r.node for r in result.result if r.node.resource_type == "test"]
        # A check fails for each row that its query gives, whatever it is.
        assert all((node.config.fail_calc, node.config.severity) == ("count(*)", "ERROR") for node in checks)
        return {node.name: node.compiled_code for node in checks}

    def run(self, *select: str) -> None:
        """Builds the selected models, by default all, without their checks, or fails with what dbt said."""
        result = self.dbt("run", *(("--select", *select) if select else ()))
        assert result.success, result.exception or [(r.node.name, r.message) for r in result.result if r.message]

    def failed(self, *arguments: str) -> set[str]:
        """Runs a dbt command that should fail, and says which nodes did."""
        result = self.dbt(*arguments)
        assert result.result is not None, result.exception
        return {r.node.name for r in result.result if r.status in ("fail", "error")}

    def query(self, sql: str) -> list[tuple]:
        """Rows of a query on the file alone, without the lake."""
        with duckdb.connect(str(self.path), read_only=True) as file:
            return file.execute(sql).fetchall()

    @contextmanager
    def opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file beside the lake, as models and checks see them while dbt runs."""
        with self._named(), duckdb.connect(str(self.path)) as file:
            connection.attach_lake(file, settings())
            yield file

    def noticed(self, tampering: Iterable[str], checks: Mapping[str, str]) -> dict[str, set[str]]:
        """Statements that tamper with the file, each undone again -> the names of the checks that notice it.

        Args:
            checks: name -> query, which has rows where the check fails.
        """
        found = {}
        with self.opened() as file:
            for sql in tampering:
                file.execute(f"begin; {sql}")
                found[sql] = {name for name, query in checks.items() if file.execute(query).fetchone() is not None}
                file.execute("rollback")
        return found

    def change(self, sql: str) -> None:
        """Changes the file behind dbt's back."""
        with duckdb.connect(str(self.path)) as file:
            file.execute(sql)

    def begin_with(self, built: Path) -> None:
        """Goes on from a file that another warehouse has built."""
        shutil.copyfile(built, self.path)

    def content(self, marts: Iterable[str] = (*MARTS, *VIEWS)) -> dict[str, list[tuple]]:
        """Every row of the marts, sorted."""
        with duckdb.connect(str(self.path), read_only=True) as file:
            return {mart: file.execute(f"select * from marts.{mart} order by all").fetchall() for mart in marts}


@contextmanager
def built_elsewhere(folder: Path, *sources: str, feeds: Sequence[Feed] = ()) -> Iterator[Warehouse]:
    """A warehouse over a lake below `folder`, for tests that begin with what it builds: in the block, this process
    means that lake.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(folder / "home"))
        settings.cache_clear()
        yield Warehouse(folder / "warehouse", *sources, feeds=feeds)
    settings.cache_clear()


def _arguments(folder: Path) -> list[str]:
    return [
        *variables(settings(), folder / "warehouse.duckdb"),
        *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
        *("--target-path", str(folder / "target"), "--log-path", str(folder / "logs")),
    ]

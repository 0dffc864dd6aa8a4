"""A source's daily report becomes a table of PostgreSQL, too, and keeps the instruments that paused."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from assets_tests.support.folder_source import FolderSource, bar_line
from assets_tests.support.reference import HEADER, isin
from lakehouse.domains.market.bars.config import Report
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.report import export_report, unreported
from lakehouse.ingest.load import load
from lakehouse.servers.postgres import Database
from lakehouse.servers.tables import Written
from lakehouse.settings import settings

DAYS = [date(2017, 7, 7), date(2017, 7, 10), date(2017, 7, 11)]
BUSY, PAUSING = isin("DE000SIM000"), isin("DE000SIM001")
COLUMNS = {"day": "session", "isin": "instrument_id", "close": "close", "change": "change_pct"}
TABLE = {"table": "daily_report", "key": ["day", "isin"]}


@pytest.fixture
def source(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, empty_database: Database) -> FolderSource:
    """Three sessions; one of two instruments doesn't trade in the second."""
    monkeypatch.setenv("LAKEHOUSE_DATABASE_URL", empty_database.url)
    settings.cache_clear()
    made = FolderSource.below(tmp_path, monkeypatch)
    report = Report.model_validate({"key": "{session}.parquet", "columns": COLUMNS, "table": TABLE})
    made.config = made.config.model_copy(update={"report": report})
    for number, day in enumerate(DAYS):
        put(made, day, [10.0 + number, *([20.0 + number] if number != 1 else [])])
    take(made, DAYS)
    return made


def put(source: FolderSource, day: date, prices: list[float]) -> None:
    lines = [
        bar_line(0, price, Date=str(day), ISIN=instrument)
        for price, instrument in zip(prices, [BUSY, PAUSING], strict=False)
    ]
    path = source.folder / str(day) / f"{day}_BINS_XETR08.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (",".join(HEADER), *lines)))


def take(source: FolderSource, days: list[date]) -> None:
    load(source.lake, source.described.bars, days)
    touched = source.described.together(source.lake, days)
    derive_bars(source.lake, source.described, touched)
    derive_daily_bars(source.lake, source.described, touched)


def stored(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute('SELECT day, isin, "close" FROM reports.daily_report ORDER BY 1, 2').fetchall()


def expected(source: FolderSource) -> list[tuple[Any, ...]]:
    found = source.lake.sql("SELECT session, instrument_id, close FROM xetra.daily_bars ORDER BY 1, 2")
    assert found is not None
    return found.fetchall()


def test_the_report_is_a_table_too(source: FolderSource, empty_database: Database) -> None:
    assert unreported(source.lake, source.described, DAYS) == DAYS
    assert export_report(source.lake, source.described, DAYS).table_rows == Written(5, 0)
    assert export_report(source.lake, source.described, DAYS).table_rows == Written(0, 0)
    assert stored(empty_database) == expected(source)
    assert unreported(source.lake, source.described, DAYS) == []
    with empty_database.connect() as connection:
        connection.execute("DELETE FROM reports.daily_report WHERE day = %s", [DAYS[1]])
    assert unreported(source.lake, source.described, DAYS) == [DAYS[1]]


def test_a_correction_restates_its_session_and_the_next(source: FolderSource, empty_database: Database) -> None:
    export_report(source.lake, source.described, DAYS)
    put(source, DAYS[1], [11.5])
    take(source, [DAYS[1]])
    done = export_report(source.lake, source.described, [DAYS[1]])
    assert done.table_rows == Written(2, 0)
    assert stored(empty_database) == expected(source)


def test_an_object_keeps_the_instruments_that_paused(source: FolderSource) -> None:
    """The session after a corrected one has instruments whose previous close is of another session."""
    export_report(source.lake, source.described, DAYS)
    export_report(source.lake, source.described, [DAYS[1]])
    last = pl.read_parquet(f"{source.described.report_url}/{DAYS[2]}.parquet")
    assert sorted(last["isin"]) == [BUSY, PAUSING]


@pytest.mark.parametrize(
    ("columns", "key", "said"),
    [({"isin": "instrument_id"}, ["isin"], "needs the column session"), (COLUMNS, ["day", "symbol"], "names symbol")],
)
def test_a_table_needs_the_session_and_its_key(columns: dict[str, str], key: list[str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Report.model_validate({"key": "x", "columns": columns, "table": {"table": "t", "key": key}})

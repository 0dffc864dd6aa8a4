"""How daily bars are stored: by year, sorted by instrument."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.described import contract_of
from assets_tests.support.made_up_contracts import written
from lakehouse.api import Lake
from lakehouse.lake.contract import Contract
from lakehouse.lake.migration import due, migrate_table
from lakehouse.lake.parquet import stored_schema
from lakehouse.lake.table import Pin

NAME = "xetra/daily_bars"
DAYS = [date(2017, 12, 28), date(2017, 12, 29), date(2018, 1, 2), date(2018, 2, 1)]


def by_month() -> Contract:
    """The contract of the release before, whose daily bars were partitioned by month."""
    text = contract_of("daily_bars").model_dump(mode="json")
    for each in [*text["columns"], *text["rules"]]:
        for name, said in each.items():
            each[name] = said.replace("year", "month") if isinstance(said, str) else said
    return Contract.model_validate(
        text | {"version": 2, "partition_by": ["month"], "migrations": text["migrations"][:1]}
    )


def row(session: date, instrument: str) -> dict[str, Any]:
    at = datetime(session.year, session.month, session.day, 9, tzinfo=UTC)
    return {
        "month": session.replace(day=1), "instrument_id": instrument, "currency": "EUR", "session": session,
        "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 5.0, "trades": 1, "turnover": 5.0,
        "bar_count": 1, "first_bar_at": at, "last_bar_at": at, "is_complete": True,
    }  # fmt: skip


@pytest.fixture
def stored(tmp_path: Path) -> Lake:
    """A lake whose daily bars the release before has written, session by session."""
    lake = Lake(str(tmp_path / "lake"))
    for day in DAYS:
        written(lake, NAME, by_month(), *(row(day, instrument) for instrument in ("B", "A")))
    return lake


def test_a_migration_by_year_keeps_every_row_and_sorts_by_instrument(stored: Lake) -> None:
    assert [table.name for table in due(stored)] == [NAME]
    assert migrate_table(stored, NAME) == 2 * len(DAYS)
    snapshot = stored.table(NAME).snapshot()
    assert sorted(Path(file).parent.name for file in snapshot.files()) == ["year=2017-01-01", "year=2018-01-01"]
    for file in snapshot.files():
        year = pl.read_parquet(file, hive_partitioning=False)
        assert year.select("instrument_id", "session").rows() == sorted(year.select("instrument_id", "session").rows())
    assert stored.table(NAME).to_polars()["session"].sort().to_list() == sorted(2 * DAYS)


def test_a_pinned_version_by_month_is_read_by_dates(stored: Lake) -> None:
    before = stored.table(NAME).stored().version
    migrate_table(stored, NAME)
    pinned = stored.pinned({NAME: Pin(before)}.get, None)
    where = "session >= '2017-12-29' AND session <= '2018-01-15'"
    with stored.connect() as connection:
        was, now = (
            connection.execute(
                f"{lake.table(NAME).snapshot().select_where(where)} ORDER BY session, instrument_id"
            ).pl()
            for lake in (pinned, stored)
        )
    assert now["session"].to_list() == [DAYS[1], DAYS[1], DAYS[2], DAYS[2]]
    assert_frame_equal(was, now)


def test_rows_are_stored_in_groups_that_a_reader_of_few_can_skip(tmp_path: Path) -> None:
    contract = contract_of("daily_bars")
    many = [row(date(2017, 1, 2), f"I{number:06}") for number in range(50_000)]
    rows = [{name: value for name, value in each.items() if name != "month"} | {"year": date(2017, 1, 1)}
            for each in many]  # fmt: skip
    table = written(Lake(str(tmp_path / "lake")), NAME, contract, *rows)
    (file,) = table.snapshot().files()
    import pyarrow.parquet as pq

    metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [
        20_000,
        20_000,
        10_000,
    ]
    assert stored_schema(contract).names[1] == "instrument_id"
    assert metadata.row_group(1).column(0).statistics.min == "I020000"

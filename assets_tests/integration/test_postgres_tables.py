"""Rows are written to a table of PostgreSQL by key, so that it equals them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets_tests.support.servers.postgres import new_database
from assets_tests.support.soak import soak_count
from lakehouse.errors import SourceError
from lakehouse.servers.postgres import Database
from lakehouse.servers.tables import Slice, TargetTable, Written, write_rows

TABLE = TargetTable("reports", "daily", ("day", "symbol"))
MONDAY, TUESDAY = date(2024, 3, 4), date(2024, 3, 5)


@pytest.fixture
def target(any_postgres: Database) -> Iterator[Database]:
    with new_database(any_postgres) as made:
        yield made


def prices(*rows: tuple[date, str, float | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"day": pl.Date, "symbol": pl.String, "close": pl.Float64}, orient="row")


def stored(database: Database, query: str = "SELECT * FROM reports.daily ORDER BY 1, 2") -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_rows_are_written_once_and_only_where_they_change(target: Database) -> None:
    rows = prices((MONDAY, "A", 1.5), (MONDAY, "B", None), (TUESDAY, "A", float("nan")))
    assert write_rows(target, TABLE, rows) == Written(3, 0)
    assert write_rows(target, TABLE, rows) == Written(0, 0)
    assert write_rows(target, TABLE, prices((MONDAY, "A", 2.5), (MONDAY, "B", None))) == Written(1, 1)
    assert stored(target) == [(MONDAY, "A", 2.5), (MONDAY, "B", None)]


def test_a_slice_leaves_the_other_rows_alone(target: Database) -> None:
    write_rows(target, TABLE, prices((MONDAY, "A", 1.0), (MONDAY, "B", 1.0), (TUESDAY, "A", 1.0)))
    assert write_rows(target, TABLE, prices((MONDAY, "C", 2.0)), Slice("day", [MONDAY])) == Written(1, 2)
    assert stored(target) == [(MONDAY, "C", 2.0), (TUESDAY, "A", 1.0)]
    assert write_rows(target, TABLE, prices(), Slice("day", [MONDAY])) == Written(0, 1)


def test_every_type_comes_back_as_it_was(target: Database) -> None:
    row = {
        "id": 2**63 - 1,
        "amount": Decimal("12345678901234567890.1234"),
        "at": datetime(2024, 3, 4, 9, 30, 0, 1, tzinfo=UTC),
        "local": datetime(2024, 3, 4, 9, 30),
        "text": "tab\tnewline\n\\N ü",
        "flag": True,
        "ratio": 0.1,
        "raw": b"\x00\xff",
    }
    schema = {"amount": pl.Decimal(38, 4), "at": pl.Datetime("us", "UTC")}
    frame = pl.DataFrame([row], schema_overrides=schema)
    write_rows(target, TargetTable("reports", "kinds", ("id",)), frame)
    assert stored(target, "SELECT * FROM reports.kinds") == [tuple(row.values())]


def test_a_new_column_is_added(target: Database) -> None:
    write_rows(target, TABLE, prices((MONDAY, "A", 1.0)))
    wider = prices((MONDAY, "A", 1.0)).with_columns(volume=pl.lit(5))
    assert write_rows(target, TABLE, wider) == Written(1, 0)
    assert stored(target) == [(MONDAY, "A", 1.0, 5)]


def test_what_a_table_cannot_have_is_named(target: Database) -> None:
    twice = prices((MONDAY, "A", 1.0), (MONDAY, "A", 2.0))
    with pytest.raises(SourceError, match=r"reports\.daily doesn't take the rows"):
        write_rows(target, TABLE, twice)
    with pytest.raises(SourceError, match="doesn't take the rows"):
        write_rows(target, TABLE, prices((MONDAY, "nul\0", 1.0)))
    with pytest.raises(SourceError, match="column tags is of type List"):
        write_rows(target, TABLE, twice.with_columns(tags=pl.lit(["x"])))
    with pytest.raises(SourceError, match="its key isin is no column"):
        write_rows(target, TargetTable("reports", "daily", ("isin",)), twice)
    write_rows(target, TABLE, prices((MONDAY, "A", 1.0)))
    with pytest.raises(SourceError, match="exists with another key than symbol"):
        write_rows(target, TargetTable("reports", "daily", ("symbol",)), prices((MONDAY, "A", 1.0)))
    with pytest.raises(SourceError, match="is no name of a table"):
        TargetTable("reports", 'daily"; DROP', ("day",))
    assert stored(target) == [(MONDAY, "A", 1.0)]


ROWS = st.dictionaries(
    st.tuples(st.sampled_from([MONDAY, TUESDAY]), st.sampled_from("ABC")),
    st.one_of(st.none(), st.floats(allow_nan=False)),
)


@settings(max_examples=soak_count(5, 100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(ROWS, min_size=1, max_size=4))
def test_the_table_equals_what_was_written_last(writes: list[dict[tuple[date, str], float]], target: Database) -> None:
    for rows in writes:
        write_rows(target, TABLE, prices(*((*key, value) for key, value in rows.items())))
        assert {row[:2]: row[2] for row in stored(target)} == rows

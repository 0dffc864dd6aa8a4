"""A Delta copy of a query has its rows after any changes, and only months that differ are written."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

import deltalake
import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import SourceError, SourceUnavailable
from lakehouse.lake.delta_copy import keep_equal
from lakehouse.lake.sql import Query

Row = tuple[date | None, int]
DAYS = [date(2023, 12, 31), date(2024, 1, 1), date(2024, 1, 31), date(2024, 2, 29), date(9999, 12, 1), None]
COLUMNS = "day DATE, number INTEGER"
QUERY = Query("SELECT day, number FROM sales")


def sales(rows: list[Row], columns: str = COLUMNS) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE sales ({columns})")
    for row in rows:
        connection.execute(f"INSERT INTO sales VALUES ({', '.join('?' * len(row))})", row)
    return connection


def read(folder: Path) -> list[tuple]:
    """By another engine than the one that wrote."""
    with duckdb.connect() as connection:
        files = [unquote(uri) for uri in deltalake.DeltaTable(str(folder)).file_uris()]
        return connection.execute(f"SELECT * FROM read_parquet({files}) ORDER BY ALL").fetchall() if files else []


def ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row[0] is None, row[0] or date.min, row[1]))


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(DAYS), st.integers(0, 2)), max_size=8),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["day", None]),
)
def test_whatever_the_rows_become__the_copy_has_them(states: list[list[Row]], by: str | None) -> None:
    with TemporaryDirectory() as folder:
        for rows in states:
            place = Path(folder) / "my copies 100%"
            with sales(rows) as connection:
                made = keep_equal(connection.sql, QUERY, by, str(place))
                again = keep_equal(connection.sql, QUERY, by, str(place))
            assert (made.rows, again.rows, again.written) == (len(rows), len(rows), 0)
            assert read(place) == ordered(rows)


def test_only_months_that_differ_are_written(tmp_path: Path) -> None:
    rows: list[Row] = [(date(2024, month, 10), number) for month in range(1, 13) for number in range(3)]
    with sales(rows) as connection:
        assert keep_equal(connection.sql, QUERY, "day", str(tmp_path / "copy")).written == 36
        connection.execute("UPDATE sales SET number = 7 WHERE day = '2024-03-10' AND number = 1")
        connection.execute("DELETE FROM sales WHERE day = '2024-12-10'")
        made = keep_equal(connection.sql, QUERY, "day", str(tmp_path / "copy"))
    assert (made.rows, made.written) == (33, 3)
    assert len(read(tmp_path / "copy")) == 33
    assert deltalake.DeltaTable(str(tmp_path / "copy")).version() == 1


def test_months_of_moments_are_those_of_utc(tmp_path: Path) -> None:
    place, query = str(tmp_path / "copy"), Query("SELECT sold_at, number FROM sales")
    moments = [datetime(2024, 1, 31, 23, 59, 59, 999999, UTC), datetime(2024, 2, 1, tzinfo=UTC)]
    with sales([], "sold_at TIMESTAMPTZ, number INTEGER") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for moment in moments:
            connection.execute(f"INSERT INTO sales VALUES ('{moment.isoformat()}', 1)")
        keep_equal(connection.sql, query, "sold_at", place)
        connection.execute("UPDATE sales SET number = 2 WHERE sold_at >= '2024-02-01'")
        assert keep_equal(connection.sql, query, "sold_at", place).written == 1
    assert pl.read_delta(place).sort("sold_at").rows() == [(moments[0], 1), (moments[1], 2)]


def test_other_columns__the_table_is_written_anew_in_one_commit(tmp_path: Path) -> None:
    place = tmp_path / "copy"
    with sales([(date(2024, 1, 1), 1)]) as connection:
        keep_equal(connection.sql, QUERY, "day", str(place))
        more = Query("SELECT day, number, 'x' AS name FROM sales")
        assert keep_equal(connection.sql, more, "day", str(place)).written == 1
        assert keep_equal(connection.sql, more, "day", str(place)).written == 0
    assert read(place) == [(date(2024, 1, 1), 1, "x")]
    assert deltalake.DeltaTable(str(place)).version() == 1


def test_rows_that_another_program_has_changed_are_put_right__after_compaction_nothing_is_written(
    tmp_path: Path,
) -> None:
    place = str(tmp_path / "copy")
    with sales([(date(2024, 1, 1), 1), (date(2024, 2, 1), 2)]) as connection:
        keep_equal(connection.sql, QUERY, "day", place)
        connection.execute("UPDATE sales SET number = 3 WHERE number = 2")
        keep_equal(connection.sql, QUERY, "day", place)
        deltalake.DeltaTable(place).optimize.compact()
        assert keep_equal(connection.sql, QUERY, "day", place).written == 0
        deltalake.DeltaTable(place).delete("number = 1")
        assert keep_equal(connection.sql, QUERY, "day", place).written == 2
    assert read(Path(place)) == [(date(2024, 1, 1), 1), (date(2024, 2, 1), 3)]


def test_readers_that_skip_files_find_decimals(tmp_path: Path) -> None:
    price = Decimal("12345678901234567.89")
    with sales([(price,)], "price DECIMAL(19, 2)") as connection:
        keep_equal(connection.sql, Query("SELECT price FROM sales"), None, str(tmp_path / "copy"))
    found = pl.scan_delta(str(tmp_path / "copy")).filter(pl.col("price") == price).collect()
    assert found["price"].to_list() == [price]


def test_a_table_that_no_report_has_made_is_left_alone(tmp_path: Path) -> None:
    deltalake.write_deltalake(str(tmp_path / "own"), pl.DataFrame({"day": [date(2024, 1, 1)], "number": [1]}))
    with sales([]) as connection, pytest.raises(SourceError, match="own is a Delta table that no report has made"):
        keep_equal(connection.sql, QUERY, None, str(tmp_path / "own"))
    assert read(tmp_path / "own") == [(date(2024, 1, 1), 1)]


def test_a_place_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with sales([]) as connection, pytest.raises(SourceUnavailable, match=r"file/copy can't be written"):
        keep_equal(connection.sql, QUERY, None, str(tmp_path / "file" / "copy"))

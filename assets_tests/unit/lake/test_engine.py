"""The connections to a lake: those of a process share one DuckDB for each way to read S3, and nothing they hold."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from assets_tests.support.duckdbs import started
from lakehouse.lake.engine import add_frame, opened, opened_with_catalog, prepare


def test_opened__starts_one_duckdb_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(str(tmp_path)).close()

    def refused(*_: object, **__: object) -> duckdb.DuckDBPyConnection:
        raise AssertionError("another DuckDB was started")

    monkeypatch.setattr(duckdb, "connect", refused)
    for _ in range(2):
        with opened(str(tmp_path)) as connection:
            assert connection.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)


BUCKET = "s3://lake/tables"


def keys_of(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The keys that a connection reads S3 with."""
    found = connection.execute("SELECT secret_string FROM duckdb_secrets()").fetchall()
    return [part for (text,) in found for part in text.split(";") if part.startswith("key_id=")]


def test_opened__starts_one_duckdb_for_each_way_to_read_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = started(monkeypatch)
    kept = []
    for key in ("AKIDONE", "AKIDOTHER", "AKIDONE"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        for opens in (opened, opened_with_catalog):
            kept.append(connection := opens(BUCKET))
            assert keys_of(connection) == [f"key_id={key}"]
    assert len(counted) == 2
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("is_packaged", [True, False])
def test_prepare__many_connections_to_one_duckdb_at_once(monkeypatch: pytest.MonkeyPatch, *, is_packaged: bool) -> None:
    if not is_packaged:
        monkeypatch.setitem(sys.modules, "duckdb_extension_httpfs", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDONE")
    with duckdb.connect() as database, ThreadPoolExecutor(8) as pool:
        # Two that conflict in DuckDB would raise.
        for connection in pool.map(lambda _: prepare(database.cursor(), BUCKET), range(40)):
            connection.close()
        assert keys_of(database) == (["key_id=AKIDONE"] if is_packaged else [])


def test_prepare__the_keys_of_a_database_are_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with duckdb.connect() as database:
        for key in ("AKIDONE", "AKIDOTHER"):
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
            prepare(database, BUCKET)
            assert keys_of(database) == [f"key_id={key}"]


def test_opened__connections_see_nothing_of_each_other(tmp_path: Path) -> None:
    with opened(str(tmp_path)) as one, opened(str(tmp_path)) as other:
        for number, connection in enumerate((one, other)):
            connection.execute(f"CREATE TEMP TABLE made AS SELECT {number} AS number")
            connection.execute(f"CREATE TEMP VIEW shown AS SELECT {number} AS number")
            connection.register("given", pa.table({"number": [number]}))
        for number, connection in enumerate((one, other)):
            for name in ("made", "shown", "given"):
                assert connection.execute(f"FROM {name}").fetchall() == [(number,)]
    with opened(str(tmp_path)) as later:
        for name in ("made", "shown", "given"):
            with pytest.raises(duckdb.CatalogException):
                later.execute(f"FROM {name}")


def test_opened__a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for number in range(3):
        with opened(str(tmp_path)) as connection:
            connection.execute(f"COPY (SELECT {number} AS number) TO '{path}'")
        with opened(str(tmp_path)) as connection:
            assert connection.execute(f"FROM '{path}'").fetchall() == [(number,)]


@pytest.mark.parametrize("rows", [0, 3])
def test_add_frame__gives_the_rows_and_types_of_a_registered_frame_and_replaces_an_earlier_one(rows: int) -> None:
    opens = datetime(2024, 3, 1, 8, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "session": [date(2024, 3, day) for day in (1, 2, 3)],
            "open_at": [opens, opens + timedelta(microseconds=1), None],
            "is_complete": [True, None, False],
            "name": ["a", "", None],
        },
        schema_overrides={"open_at": pl.Datetime("us", "UTC")},
    ).head(rows)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        add_frame(connection, "hours of x", pl.DataFrame({"other": [1]}))
        add_frame(connection, "hours of x", frame)
        connection.register("registered", frame)
        described = [connection.execute(f'DESCRIBE "{name}"').fetchall() for name in ("hours of x", "registered")]
        assert described[0] == described[1]
        hashes = "SELECT count(*), sum(hash(session, open_at, is_complete, name))::VARCHAR"
        found = [connection.execute(f'{hashes} FROM "{name}"').fetchall() for name in ("hours of x", "registered")]
        assert found[0] == found[1]
        assert found[0][0][0] == rows

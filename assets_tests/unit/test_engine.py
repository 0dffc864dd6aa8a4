"""The DuckDB that a lake's work shares: each piece of work is alone in it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import duckdb
import pytest

from lakehouse.lake.engine import Engine, shared_engine

DATABASES = "SELECT database_name FROM duckdb_databases() WHERE NOT internal ORDER BY 1"


def test_each_connection_has_an_empty_database_of_its_own() -> None:
    with shared_engine().connection() as one, shared_engine().connection() as other:
        for number, connection in enumerate((one, other)):
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE SCHEMA xetra; CREATE TABLE xetra.bars AS SELECT {number} AS at")
            connection.execute(f"CREATE TEMP TABLE rows AS SELECT {number} AS at")
        for number, connection in enumerate((one, other)):
            assert connection.execute("SELECT bars.at, rows.at FROM xetra.bars, rows").fetchall() == [(number, number)]
        assert one.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
    with shared_engine().connection() as later:
        assert len(later.execute(DATABASES).fetchall()) == 2  # that of the engine, and its own
        with pytest.raises(duckdb.CatalogException):
            later.execute("FROM xetra.bars")


def test_settings_of_the_session_are_those_of_the_lake() -> None:
    with shared_engine().connection() as connection:
        connection.execute("SET TimeZone = 'Europe/Berlin'")
    with shared_engine().connection() as connection:
        assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]


def test_a_connection_that_fails_leaves_nothing() -> None:
    with pytest.raises(duckdb.CatalogException), shared_engine().connection() as connection:
        connection.execute("BEGIN; CREATE TABLE left_open AS SELECT 1 AS one; FROM nowhere")
    with shared_engine().connection() as connection:
        assert len(connection.execute(DATABASES).fetchall()) == 2


class Counted:
    """Opens connections as a caller of `Lake.open` may, and counts them."""

    def __init__(self) -> None:
        self.opened: list[duckdb.DuckDBPyConnection] = []

    @contextmanager
    def connections(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(config={"threads": 1}) as made:
            self.opened.append(made)
            yield made


def test_a_lakes_own_connections_are_opened_once() -> None:
    counted = Counted()
    engine = Engine("", counted.connections)
    for _ in range(3):
        with engine.connection() as connection:
            assert connection.execute("SELECT current_setting('threads')").fetchall() == [(1,)]
    assert len(counted.opened) == 1


def test_a_duckdb_that_refuses_everything_is_not_used_again() -> None:
    counted = Counted()
    engine = Engine("", counted.connections)
    with engine.connection():
        counted.opened[0].close()
    with engine.connection() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert len(counted.opened) == 2


def test_threads_work_side_by_side() -> None:
    def work(number: int) -> int:
        with shared_engine().connection() as connection:
            connection.execute(f"CREATE TABLE mine AS FROM range({number})")
            return len(connection.execute("FROM mine").fetchall())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(64))) == list(range(64))


def _answer() -> None:
    with shared_engine().connection() as connection:
        assert connection.execute("SELECT sum(range) FROM range(100_000)").fetchall() == [(4999950000,)]


def test_a_forked_process_opens_its_own() -> None:
    _answer()
    process = multiprocessing.get_context("fork").Process(target=_answer)
    process.start()
    process.join(30)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0

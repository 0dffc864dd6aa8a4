"""The DuckDB that steps work with: one, whose connections have nothing of each other."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from assets_tests.support.duckdbs import started
from lakehouse.components.resources import LakeResource, one_engine
from lakehouse.lake import engine


def test_open__a_process_starts_one_engine_for_all_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = started(monkeypatch)
    resource = LakeResource(duckdb=DuckDBResource(database=":memory:", connection_config={"threads": 1}))
    for _ in range(2):
        lake = resource.open()
        for _ in range(3):
            with lake.connect() as connection:
                found = connection.execute("SELECT current_setting('TimeZone'), current_setting('threads')")
                assert found.fetchone() == ("UTC", 1)
                # It outlives the step: a file that was replaced must not be answered from what was read of it before.
                assert connection.execute("SELECT current_setting('enable_external_file_cache')").fetchone() == (False,)
    assert len(counted) == 1
    # Another one, which is configured otherwise.
    with LakeResource(duckdb=DuckDBResource(database=":memory:", connection_config={"threads": 2})).open().connect():
        assert len(counted) == 2


def test_one_engine__connections_share_no_temporary_tables() -> None:
    opened = one_engine(DuckDBResource(database=":memory:", connection_config={"threads": 1}))
    with opened() as one, opened() as other:
        one.execute("CREATE TEMP TABLE offenders AS SELECT 1 AS number")
        other.execute("CREATE TEMP TABLE offenders AS SELECT 2 AS number")
        assert [each.execute("FROM offenders").fetchone() for each in (one, other)] == [(1,), (2,)]
    with opened() as later, pytest.raises(duckdb.CatalogException):
        later.execute("FROM offenders")


def test_one_engine__a_connection_is_prepared_after_an_earlier_one_has_spilled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "spill_folder", lambda: str(tmp_path / "spill"))
    opened = one_engine(DuckDBResource(database=":memory:", connection_config={"threads": 1}))
    for _ in range(2):
        with opened() as connection:
            engine.prepare(connection, str(tmp_path))
            connection.execute("SET memory_limit = '60MB'; SET threads = 1")
            connection.execute("CREATE TEMP TABLE large AS SELECT hash(range) AS hashed FROM range(12_000_000)")
            assert [path for path in (tmp_path / "spill").iterdir() if path.stat().st_size]

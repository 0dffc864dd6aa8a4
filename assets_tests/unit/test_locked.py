"""Other people's queries on a locked lake: they read its tables and nothing else, within limits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from assets_tests.dbt_warehouse import THURSDAY, TUESDAY, VENDOR, Action, Bar, Key, write, write_actions
from lakehouse.cli import app
from lakehouse.lake import Lake
from lakehouse.lake.locked import Limits, QueryNotAllowed, check_query, process_limits
from lakehouse.settings import settings

HOSTILE = [
    "FROM '/etc/passwd'",
    "FROM 'rows.csv'",
    "FROM 'xetra/bars/*.parquet'",
    'FROM "https://example.com/rows.parquet"',
    "DESCRIBE '/etc/passwd'",
    "SUMMARIZE 'rows.csv'",
    "FROM read_text('/etc/passwd')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH a AS (FROM read_csv('/etc/passwd')) FROM a",
    "SELECT 1 UNION ALL SELECT count(*) FROM glob('/etc/*')",
    "FROM read_blob('{lake}/ingest_ledger/_delta_log/00000000000000000000.json')",
    "FROM read_parquet('{lake}/**/*.parquet')",
    "FROM parquet_metadata('{lake}/**/*.parquet')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM query_table('/etc/passwd')",
    "FROM json_execute_serialized_sql('x')",
    "FROM system.main.read_text('/etc/passwd')",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://bucket', 's3')",
    "FROM duckdb_settings()",
    "FROM duckdb_logs",
    'FROM "{lake}/landing/alpha_vantage/rows.csv"."gz"',
    'FROM "{lake}/ingest_ledger/_delta_log/*"."json"',
    'FROM "{lake}/quarantine/rows"."parquet"',
    "FROM rows.parquet",
    "FROM main.json",
    "SELECT json_serialize_plan('SELECT current_setting(''temp_directory'')', optimize := true)",
    "SELECT view_definition FROM information_schema.views",
    "SELECT " + "+".join(["1"] * 20_000),
    "FROM pg_catalog.pg_settings",
    "FROM pg_settings",
    "SELECT getenv('HOME')",
    "SELECT current_setting('temp_directory')",
    "SELECT list_transform([1], lambda x: current_setting('memory_limit'))",
    "SELECT 1 ORDER BY getenv('AWS_SECRET_ACCESS_KEY')",
    "SELECT write_log('x')",
    "COPY (SELECT 1) TO '/tmp/rows.csv'",
    "COPY (SELECT 1) TO '{lake}/rows.parquet'",
    "EXPORT DATABASE '/tmp/lake'",
    "ATTACH '/tmp/other.duckdb'",
    "ATTACH 'https://example.com/other.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_logging",
    "CALL enable_logging()",
    "CREATE TABLE a AS SELECT 1",
    "CREATE SECRET (TYPE s3)",
    "CREATE MACRO a() AS 1",
    "INSERT INTO alpha_vantage.daily_bars SELECT 1",
    "UPDATE alpha_vantage.daily_bars SET close = 1",
    "DELETE FROM alpha_vantage.daily_bars",
    "DROP VIEW alpha_vantage.daily_bars",
    "USE memory",
    "BEGIN",
    "EXECUTE a",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '/tmp/rows.csv'",
    "EXPLAIN ANALYZE SELECT 1",
    "",
]
FINE = [
    "SELECT close FROM alpha_vantage.daily_bars ORDER BY session",
    "SELECT close FROM alpha_vantage.adjusted_daily_bars(adjusted := 'splits') ORDER BY session",
    "DESCRIBE alpha_vantage.daily_bars",
    "SUMMARIZE alpha_vantage.daily_bars",
    "SHOW TABLES",
    "SELECT * FROM lake.quarantine",
    "SELECT close FROM Alpha_Vantage.DAILY_BARS ORDER BY session",
    "SELECT close FROM ALPHA_VANTAGE.Adjusted_Daily_Bars(adjusted := 'splits') ORDER BY session",
    "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'nowhere'",
    "SELECT " + "+".join(["1"] * 100),
    "WITH a AS (SELECT 1 AS x) SELECT x, y FROM a, range(3) r(y), unnest([1, 2]) ORDER BY ALL",
    "FROM (VALUES (1), (2)) UNION ALL FROM generate_series(1, 3)",
    "SELECT current_date, regexp_replace('a/b', '/', '.'), '/etc/passwd'",
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    write({Key("S", TUESDAY, "USD"): Bar(40.0, "S"), Key("S", THURSDAY, "USD"): Bar(11.0, "S")}, VENDOR)
    write_actions([Action("S", THURSDAY, "split", 4)])
    return Lake.open(locked=True)


def hostile(query: str, lake: Lake) -> str:
    return query.replace("{lake}", lake.uri)


def rows(lake: Lake, query: str) -> list[tuple]:
    found = lake.sql(query)
    assert found is not None
    return found.fetchall()


def test_sql__a_locked_lake_refuses_hostile_queries(lake: Lake) -> None:
    before = sorted(Path(lake.uri).rglob("*"))
    for query in HOSTILE:
        with pytest.raises((QueryNotAllowed, duckdb.ParserException)):
            rows(lake, query.replace("{lake}", lake.uri))
    assert sorted(Path(lake.uri).rglob("*")) == before
    assert not Path("/tmp/rows.csv").exists()


@pytest.mark.parametrize("query", HOSTILE)
def test_check_query__stops_them_before_anything_runs(query: str) -> None:
    with pytest.raises((QueryNotAllowed, duckdb.ParserException)):
        check_query(query, ["xetra", "lake", "marts"], [("alpha_vantage", "adjusted_daily_bars")])


def test_sql__a_locked_lake_answers_as_an_open_one(lake: Lake) -> None:
    for query in FINE:
        assert rows(lake, query) == rows(Lake.open(), query), query


def test_sql__a_locked_connection_is_shut_even_to_a_query_that_got_through(lake: Lake) -> None:
    """The second fence alone."""
    found = lake.sql("SELECT 1")
    assert found is not None
    for query in ("FROM read_text('/etc/passwd')", "FROM read_csv('https://example.com/a.csv')"):
        with pytest.raises(duckdb.Error, match="disabled by configuration"):
            found.query("a", query)
    with pytest.raises(duckdb.Error, match="locked"):
        found.query("a", "SET memory_limit = '100GB'")


def test_sql__no_python_variable_is_a_table(lake: Lake) -> None:
    secrets = duckdb.sql("SELECT 'key' AS value")
    assert secrets is not None
    with pytest.raises(duckdb.Error, match="secrets"):
        lake.sql("FROM secrets")


def test_sql__ends_at_the_time_limit(lake: Lake) -> None:
    lake.limits = Limits("1GB", 0.5)
    began = time.monotonic()
    with pytest.raises((duckdb.InterruptException, duckdb.ConnectionException)) as error:
        rows(lake, "SELECT count(*) FROM range(10000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3")
    assert time.monotonic() - began < 30
    assert str(lake.limits.explained(error.value)).startswith("stopped after 0.5 s")


def test_sql__ends_at_the_memory_limit(lake: Lake) -> None:
    lake.limits = Limits("200MB", 60)
    with pytest.raises(duckdb.OutOfMemoryException) as error:
        rows(lake, "SELECT len(list(a)) FROM range(1000000000) t(a)")
    assert "more than 200MB" in str(lake.limits.explained(error.value))


def test_process_limits__leave_no_trace() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with process_limits(Limits("1GB", 60)):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 60
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    with pytest.raises(ValueError, match="write it as 500MB"):
        Limits("much", 1).memory_bytes  # noqa: B018


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's data")
def test_sql__a_single_huge_string_ends_the_query_and_not_the_machine(lake: Lake) -> None:
    command = [sys.executable, "-c", "from lakehouse.cli import app; app()", "sql", "--locked"]
    environment = os.environ | {"LAKEHOUSE_HOME": str(settings().home), "LAKEHOUSE_LOCKED_MEMORY": "200MB"}
    ended = subprocess.run(
        [*command, "SELECT length(repeat('x', 3000000000))"], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "more than 200MB" in " ".join(ended.stderr.split())


def test_sql__says_why_it_is_refused(lake: Lake) -> None:
    def said(query: str) -> str:
        result = CliRunner().invoke(app, ["sql", "--locked", query])
        return f"{result.exit_code} {' '.join(result.output.split())}"

    assert said("COPY (SELECT 1) TO 'x'") == "2 Error a locked lake answers SELECT statements only"
    assert said("FROM read_text('x')") == "2 Error a locked lake has no table function read_text()"
    assert "40.0" in said("SELECT close FROM alpha_vantage.daily_bars")


@pytest.mark.parametrize("name", ["my lake", "jürgen [1] 'x'", "a%20b#{c}=d"])
def test_sql__a_locked_lake_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / name))
    settings.cache_clear()
    try:
        write({Key("S", TUESDAY, "USD"): Bar(40.0, "S")}, VENDOR)
        assert rows(Lake.open(locked=True), "SELECT close FROM alpha_vantage.daily_bars") == [(40.0,)]
    finally:
        monkeypatch.undo()
        settings.cache_clear()

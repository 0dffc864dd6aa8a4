"""Other people's queries on a locked lake: they read its tables and nothing else, within limits."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from assets_tests.support.dbt_warehouse import THURSDAY, TUESDAY, VENDOR, Action, Bar, Key, write, write_actions
from assets_tests.support.patience import PATIENCE_S
from lakehouse.api import Lake
from lakehouse.cli import queries as cli
from lakehouse.cli.own_process import run_in_own_process
from lakehouse.cli.results import Format, partial_of
from lakehouse.errors import QueryLimitReached, QueryNotAllowed
from lakehouse.lake.locked import Limits, check_query, process_limits
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


ENDLESS = "SELECT a.range FROM range(10000000) a, range(1000000) b WHERE a.range * b.range % 7 = 8"
LONG = "FROM range(1000000000000)"
ON_LIMITS = {
    "rows": lambda found: found.fetchall(),
    "filtered": lambda found: found.filter("range > 0").fetchall(),
    "frame": lambda found: found.pl(),
    "arrow": lambda found: found.to_arrow_table(),
    "reader": lambda found: found.to_arrow_reader().read_all(),
    "shown": repr,
    "length": len,
}


@pytest.mark.parametrize("use", ON_LIMITS.values(), ids=ON_LIMITS.keys())
def test_sql__ends_at_the_time_limit_with_the_lakes_own_error(lake: Lake, use: Callable[[Any], object]) -> None:
    lake.limits = Limits("1GB", 0.1)
    found = lake.sql(ENDLESS)
    with pytest.raises(QueryLimitReached, match=r"^stopped after 0.1 s, .* set LAKEHOUSE_LOCKED_SECONDS higher$"):
        use(found)


def test_sql__a_relation_that_outlived_the_time_limit_says_so(lake: Lake) -> None:
    lake.limits = Limits("1GB", 0.3)
    before = set(threading.enumerate())
    found = lake.sql("SELECT 1")
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, threading.Timer):
            thread.join()
    with pytest.raises(QueryLimitReached, match=r"stopped after 0.3 s"):
        found.fetchall()  # type: ignore[union-attr]


@pytest.mark.parametrize("use", [ON_LIMITS["rows"], ON_LIMITS["reader"]], ids=["rows", "reader"])
def test_sql__ends_at_the_memory_limit_with_the_lakes_own_error(lake: Lake, use: Callable[[Any], object]) -> None:
    lake.limits = Limits("100MB", 60)
    found = lake.sql("SELECT len(list(range)) AS range FROM range(1000000000)")
    with pytest.raises(QueryLimitReached, match=r"more than 100MB, .* set LAKEHOUSE_LOCKED_MEMORY higher$"):
        use(found)


def test_sql__a_locked_relation_is_used_as_an_open_one(lake: Lake) -> None:
    locked, opened = lake.sql("SELECT 1 AS a, 'x' AS b"), Lake.open().sql("SELECT 1 AS a, 'x' AS b")
    assert locked is not None
    assert opened is not None
    for use in (repr, len, lambda found: (found.columns, "a" in found, found["a"].fetchall(), found.fetchone())):
        assert use(locked) == use(opened)
    assert locked.union(locked).fetchall() == [(1, "x")] * 2
    with pytest.raises(duckdb.BinderException):
        locked.project("c")


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
    code, output = asked("SELECT length(repeat('x', 3000000000))", LAKEHOUSE_LOCKED_MEMORY="200MB")
    assert code == 2
    assert "more than 200MB" in output


def asked(query: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """The exit status of `lakehouse sql --locked` and what it printed; the grace after the time limit is short."""
    program = "from lakehouse.lake import locked; locked._GRACE_S = 0.1; from lakehouse.cli.app import app; app()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "sql", "--locked", *arguments, query],
        env=os.environ | {"LAKEHOUSE_HOME": str(settings().home), "COLUMNS": "300"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ended.returncode, ended.stdout


def test_sql__says_why_it_is_refused(lake: Lake) -> None:
    assert asked("FROM read_text('x')") == (2, "Error a locked lake has no table function read_text()\n")
    code, output = asked("SELECT close FROM alpha_vantage.daily_bars")
    assert code == 0
    assert "40.0" in output


def test_sql__killed_without_a_word_at_the_time_limit(tmp_path: Path) -> None:
    """The arguments of a table function are computed with Python's lock held, and aren't interrupted."""
    held = "FROM range(list_sum(list_transform(range(200000000), lambda x: x * x % 7))::BIGINT)"
    (folder := tmp_path / "out").mkdir()
    code, output = asked(held, "--output", str(folder / "rows.csv"), LAKEHOUSE_LOCKED_SECONDS="0.1")
    assert code == 2
    assert output.startswith("Error stopped after 0.1 s, the longest time of a query on a locked lake: ask for less")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGALRM, 2, "stopped after 60 s"),
        (signal.SIGKILL, 2, "more than 1GB"),
        (signal.SIGUSR1, 2, "SIGUSR1 ended the query's process"),
        (signal.SIGHUP, 129, ""),
    ],
)
def test_run_in_own_process__a_partial_file_is_left_by_none(
    tmp_path: Path, number: signal.Signals, status: int, said: str
) -> None:
    output = tmp_path / "rows.csv"

    def answer() -> None:
        partial_of(output, os.getpid()).write_text("a\n1\n")
        os.kill(os.getpid(), number)

    errors: list[Exception] = []
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    # It is ignored under nohup, as a suite may be.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert run_in_own_process(answer, output, errors.append) == status
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said in "".join(map(str, errors))
    assert bool(errors) == bool(said)
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from lakehouse.cli import own_process
from lakehouse.cli.results import partial_of

own_process._GRACE_S = 0.05
signal.signal(signal.SIGINT, signal.default_int_handler)
output = Path(sys.argv[1])

def answer():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    partial_of(output, os.getpid()).write_text("a")
    os.kill(os.getppid(), signal.SIGINT)
    signal.alarm(20)
    signal.pause()

sys.exit(own_process.run_in_own_process(answer, output, print))
"""


def test_run_in_own_process__an_interrupt_of_the_command_alone_ends_the_query(tmp_path: Path) -> None:
    """In a process without other threads, as the command is when it forks."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "rows.csv")], timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_run_in_own_process__nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_in_own_process(lambda: os.kill(os.getppid(), signal.SIGHUP), None, pytest.fail) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sql__an_interrupted_clean_up_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars raises KeyboardInterrupt, and then Python does: the second one may meet the clean-up after the first."""
    output = tmp_path / "rows.csv"

    def interrupted(*_: object) -> None:
        partial_of(output, os.getpid()).write_text("a\n1\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "print_result", interrupted)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "home"))
    process = multiprocessing.get_context("fork").Process(
        target=lambda: cli._answer("SELECT 1", Format.csv, output, None, locked=False)
    )
    process.start()
    process.join()
    assert process.exitcode == 130
    assert list(tmp_path.glob(".*.partial")) == []


def test_run_in_own_process__its_exit_status_is_the_commands() -> None:
    assert run_in_own_process(lambda: None, None, pytest.fail) == 0
    assert run_in_own_process(lambda: sys.exit(141), None, pytest.fail) == 141


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

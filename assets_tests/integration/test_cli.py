"""The command line as people use it: results, exit codes, and errors in their own words."""

from __future__ import annotations

import csv
import gc
import io
import json
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from click.testing import Result
from deltalake import write_deltalake
from typer.testing import CliRunner

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.described import with_bars
from assets_tests.support.exchange_lake import FIRST, LAST, SESSIONS, ExchangeLake
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.app import app
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load
from lakehouse.local_dagster.instance import opened_instance
from lakehouse.settings import settings

COMMANDS = (
    *("init", "check", "backfill", "reload", "stream", "watch", "sql", "plot", "status", "rebuild", "migrate"),
    *("dev", "demo"),
)
RANGE = ["--from", str(FIRST), "--to", str(LAST)]


def lakehouse(*arguments: str) -> Result:
    """Runs a command in this process, as wide as a file is."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})


def said(*arguments: str, code: int) -> str:
    """What a command that must end with `code` printed, with nothing of a traceback."""
    result = lakehouse(*arguments)
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture(autouse=True)
def dagster_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A backfill puts DAGSTER_HOME into its process's environment; it goes with the test."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    assert command in said("--help", code=0)
    text = said(command, "--help", code=0)
    assert f"Usage: lakehouse {command}" in text
    assert "[OPTIONS]" in text


def test_a_backfill_prints_what_it_did_and_fails_where_a_check_does(exchange_lake: ExchangeLake) -> None:
    exchange, truth = exchange_lake.exchange, exchange_lake.exchange.truth
    exchange.write(exchange_lake.feed)
    text = said("backfill", "xetra", *RANGE, code=1)
    first = truth.counts("first")
    assert f"sessions {len(SESSIONS)} rows received {first.received:,} rows kept {first.kept:,}" in text
    assert f"daily bars {truth.daily_bars('first').height}" in text
    assert "failed xetra/raw_bars: objects_readable: 1 object could not be read" in text

    exchange.write(exchange_lake.feed, "late")
    exchange.write(exchange_lake.feed, "repaired")
    text = said("backfill", "xetra", *RANGE, code=0)
    received = truth.counts("first", "late", "repaired").received
    assert f"rows received {received:,}" in text
    assert "failed" not in text


def test_reload_reads_again_what_a_wrong_yaml_refused(exchange_lake: ExchangeLake) -> None:
    truth = exchange_lake.exchange.truth
    faulty = {str(name)[:10] for name in (truth.damaged_object, truth.late_object)}
    session = next(day for day in SESSIONS if str(day) not in faulty)
    exchange_lake.exchange.write(exchange_lake.feed)
    right = source_named("xetra")
    wrong = with_bars(right, columns={**right.config.bars.columns, "low": "MaxPrice", "high": "MinPrice"})
    assert load(Lake.open(), wrong.bars, [session]).rows_quarantined > 0
    assert "read by other settings: run lakehouse reload xetra" in said("status", code=0)

    text = said("reload", "xetra", code=0)
    assert "sessions 1" in text
    bars = exchange_lake.rows("xetra/bars")
    assert set(bars["session"]) == {session}
    assert "read by other settings" not in said("status", code=0)
    assert "nothing to read again" in said("reload", "xetra", code=0)


def test_sql_in_every_format(first_load: FirstLoad, tmp_path: Path) -> None:
    query = "SELECT session, instrument_id, close FROM xetra.daily_bars ORDER BY ALL LIMIT 3"
    rows = first_load.lake.rows("xetra/daily_bars").select("session", "instrument_id", "close").sort(pl.all()).head(3)

    table = lakehouse("sql", query)
    assert table.exit_code == 0
    assert all(str(value) in table.stdout for row in rows.rows() for value in row)
    read = list(csv.reader(io.StringIO(lakehouse("sql", query, "--format", "csv").stdout)))
    assert read == [rows.columns, *([str(value) for value in row] for row in rows.rows())]
    read = json.loads(lakehouse("sql", query, "--format", "json").stdout)
    assert read == [row | {"session": str(row["session"])} for row in rows.to_dicts()]
    target = tmp_path / "rows.parquet"
    said("sql", query, "--format", "parquet", "--output", str(target), code=0)
    assert pl.read_parquet(target).equals(rows)
    piped = lakehouse("sql", query, "--format", "parquet").stdout_bytes
    assert pl.read_parquet(io.BytesIO(piped)).equals(rows)


def test_sql_knows_every_table(first_load: FirstLoad) -> None:
    for table in ("xetra.raw_bars", "xetra.bars", "lake.ingest_ledger", "lake.quarantine", "lake.conservation"):
        assert int(lakehouse("sql", f"SELECT count(*) AS n FROM {table}", "--format", "csv").stdout.split()[1]) > 0
    (found,) = json.loads(lakehouse("sql", "SELECT count(*) AS n FROM marts.fct_daily_bar", "--format", "json").stdout)
    assert found["n"] == first_load.lake.rows("xetra/daily_bars").height
    # A pipe gets every row, and lists as JSON.
    quarantine = list(csv.DictReader(io.StringIO(lakehouse("sql", "FROM lake.quarantine", "--format", "csv").stdout)))
    assert len(quarantine) == first_load.lake.rows("quarantine").height
    assert all(json.loads(row["reasons"]) for row in quarantine)
    (conserved,) = json.loads(
        lakehouse(
            "sql",
            "SELECT sum(received) - sum(kept + duplicates + superseded + quarantined) AS lost FROM lake.conservation",
            "--format",
            "json",
        ).stdout
    )
    assert float(conserved["lost"]) == 0


def test_sql_knows_a_table_under_another_name(first_load: FirstLoad) -> None:
    """DuckDB tells the tables of a query with their aliases."""
    plain = said("sql", "SELECT count(*) FROM xetra.bars", "--format", "csv", code=0)
    for query in (
        "SELECT count(*) FROM xetra.bars b",
        'SELECT count(*) FROM "xetra"."bars" AS "the bars"',
        "SELECT count(b.open) FROM xetra.bars b WHERE EXISTS (FROM xetra.daily_bars d WHERE d.session = b.session)",
        "WITH those AS (FROM xetra.bars AS b) SELECT count(*) FROM those t",
    ):
        assert said("sql", query, "--format", "csv", code=0).split()[-1] == plain.split()[-1], query


def test_sql_as_of_answers_with_what_was_known_then(first_load: FirstLoad) -> None:
    lake, source = first_load.lake, source_named("xetra")
    questions = {
        "xetra.bars": "SELECT count(*) AS n, sum(volume) AS v FROM xetra.bars",
        "xetra.daily_bars": "SELECT count(*) AS n, sum(bar_count) AS v FROM xetra.daily_bars",
        "lake.ingest_ledger": "SELECT count(*) AS n, sum(rows_received) AS v FROM lake.ingest_ledger",
        "marts.fct_daily_bar": "SELECT count(*) AS n, sum(bar_count) AS v FROM marts.fct_daily_bar",
    }
    before = {name: lakehouse("sql", query, "--format", "csv").stdout for name, query in questions.items()}
    moment = datetime.now(UTC).isoformat()
    for stage in ("late", "repaired", "corrected"):
        lake.exchange.write(lake.feed, stage)  # type: ignore[arg-type]
    load(Lake.open(), source.bars, SESSIONS)
    derive_bars(Lake.open(), source, SESSIONS)
    derive_daily_bars(Lake.open(), source, SESSIONS)

    for name, query in questions.items():
        then = lakehouse("sql", query, "--format", "csv", "--as-of", moment)
        assert (then.exit_code, then.stdout) == (0, before[name]), (name, then.output)
        if not name.startswith("marts"):
            assert lakehouse("sql", query, "--format", "csv").stdout != before[name]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sql", "SELECT * FROM xetra.nothing"], 2, "xetra.daily_bars"),
        (["sql", "SELEC 1"], 2, "syntax error"),
        (["sql", "SELECT '[/]'::INTEGER"], 2, "Could not convert string '[/]' to INT32"),
        (["sql", "SELECT 1", "--format", "csv", "--output", "/nowhere/rows.csv"], 2, "/nowhere/rows.csv"),
        (["sql", "SELECT 1", "--as-of", "yesterday"], 2, "'yesterday' is no timestamp"),
        (["sql", "SELECT 1", "--format", "yaml"], 2, "yaml"),
        (["backfill", "nasdaq", *RANGE], 2, "no source 'nasdaq'; there is banking, documents, alpha_vantage, "),
        (["backfill", "xetra", "--from", "24.12.2024", "--to", "2024-12-31"], 2, "'24.12.2024' is not a date"),
        (["backfill", "xetra", "--from", "2024-03-30", "--to", "2024-04-01"], 2, "XETR has had no session from 2024"),
        (["backfill", "xetra", "--from", "2024-03-28", "--to", "2024-03-01"], 2, "is before the first, 2024-03-28"),
        (["backfill", "xetra", "--from", "2090-01-02", "--to", "2090-01-31"], 2, "XETR has had no session from 2090"),
        (["backfill", "xetra", "--from", "2010-01-04", "--to", "2010-01-08"], 2, "xetra begins with 2017-06-19"),
        (["backfill", "iex", *RANGE], 2, "iex has nothing to load: its rows come in by `lakehouse stream iex`"),
        (["update", "iex"], 2, "iex has nothing to load"),
        (["rebuild", "nasdaq"], 2, "no source 'nasdaq'"),
        (["backfill", "xetra"], 2, "Missing option"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_errors_are_answers(first_load: FirstLoad, arguments: list[str], code: int, words: str) -> None:
    assert words in said(*arguments, code=code)


def test_a_source_without_an_address_says_how_to_give_it_one(
    exchange_lake: ExchangeLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEHOUSE_XETRA_URL")
    assert "set LAKEHOUSE_XETRA_URL to a folder or an s3:// URL" in said("backfill", "xetra", *RANGE, code=2)


def test_a_setting_that_can_t_be_used_is_named_and_nothing_else(
    exchange_lake: ExchangeLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_DEFS", "")
    settings.cache_clear()
    assert said("status", code=2).count("LAKEHOUSE_DEFS") == 1


def test_status_of_an_empty_lake(exchange_lake: ExchangeLake) -> None:
    text = said("status", code=0)
    assert "nothing loaded: alpha_vantage, banking" in text
    assert "xetra marts: never published" in text


def test_status_names_what_is_missing_failed_and_refused(first_load: FirstLoad) -> None:
    truth = first_load.lake.exchange.truth
    text = said("status", code=0)
    assert f"sessions loaded 5 ({FIRST} to {LAST})" in text
    assert str(truth.damaged_object) in text
    assert f"rows received {truth.counts('first').received:,}" in text
    for name in (truth.late_object, truth.damaged_object):
        assert f"{str(name)[:10]} hour {str(name)[-9:-7]}" in text
    assert "is no session of XETR" in text
    assert "marts: published 20" in text


def tamper(table: str) -> pl.DataFrame:
    """Changes the closes of one partition behind the lake's back; the table as it was."""
    stored = Lake.open().table(f"xetra/{table}")
    before = stored.to_polars()
    partition = stored.contract.partition_by[0]
    value = SESSIONS[1].replace(month=1, day=1) if partition == "year" else SESSIONS[1]
    rows = before.filter(pl.col(partition) == value).with_columns(pl.col("close") * 1.01)
    arrow = rows.to_arrow().cast(stored.contract.arrow_schema)
    write_deltalake(stored.uri, arrow, mode="overwrite", predicate=f"{partition} = '{value}'")
    return before.sort(stored.contract.key)


def test_rebuild_finds_and_mends_what_was_tampered_with(first_load: FirstLoad) -> None:
    """Bars, daily bars and a mart; afterwards nothing differs."""
    before = {table: tamper(table) for table in ("bars", "daily_bars")}
    gc.collect()  # an answer that an earlier error still holds keeps the file open for reading
    with duckdb.connect(str(first_load.lake.warehouse)) as connection:
        connection.execute("UPDATE marts.average_range SET average_range_pct = average_range_pct + 1")

    versions = first_load.lake.versions()
    text = said("rebuild", "xetra", "--verify", code=1)
    for table, rows in before.items():
        assert re.search(rf"xetra\.{table}: {rows.height:,} rows, [1-9][\d,]* rows differ", text)
    assert re.search(r"marts: [a-z_, ]*average_range[a-z_, ]* differ", text)
    assert "Run the command without --verify to correct them" in text
    assert first_load.lake.versions() == versions
    said("rebuild", "xetra", code=0)
    for table, rows in before.items():
        assert (
            first_load.lake.rows(f"xetra/{table}").sort(Lake.open().table(f"xetra/{table}").contract.key).equals(rows)
        )
    intact = said("rebuild", "xetra", "--verify", code=0)
    assert intact.count(" rows, 0 rows differ") == len(before)
    assert "marts: nothing differs" in intact


@pytest.mark.parametrize("table", ["bars", "daily_bars"])
def test_rebuild_finds_and_mends_a_single_tampered_table(first_load: FirstLoad, table: str) -> None:
    source, before = source_named("xetra"), tamper(table)
    assert rebuild(Lake.open(), source, verify=True).tables[table].rows_changed > 0
    rebuild(Lake.open(), source)
    assert first_load.lake.rows(f"xetra/{table}").sort(Lake.open().table(f"xetra/{table}").contract.key).equals(before)
    assert not rebuild(Lake.open(), source, verify=True).differs


def processor_seconds() -> float:
    """What the processes that this one has waited for took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_demo_takes_little_more_than_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a core, on a machine that imports Dagster and dbt in a second and a half; on a slower one as many times as
    long. Every domain is loaded by Dagster. Beside other tests it costs half as much again, more than the import does.
    """
    monkeypatch.delenv("DAGSTER_HOME")
    python = Path(sys.executable)
    before = processor_seconds()
    subprocess.run([python, "-c", "import dagster, dagster_dbt"], check=True)
    imported = processor_seconds()
    done = subprocess.run([python.with_name("lakehouse"), "demo"], capture_output=True, text=True, cwd=tmp_path)
    played = processor_seconds()

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert played - imported < 100 * max(1.0, (imported - before) / 1.5)
    # The command's path is quoted where it has a space.
    for words in (
        "First load",
        "demo_crossover: ",
        "banking: ",
        "orders: of 60 orders 54 were shipped and 6 cancelled",
        "After them",
        "In the quarantine",
        "Try next",
        "lakehouse'? sql",
        "lakehouse'? dev --demo",
    ):
        assert re.search(words, done.stdout), words
    # What the UI shows when it is opened then.
    monkeypatch.setenv("DAGSTER_HOME", str(settings().home / "demo" / "dagster"))
    with opened_instance() as instance:
        for asset in (
            "xetra/daily_bars",
            "alpha_vantage/reconciliation",
            "iex/quotes",
            "iex/quote_windows",
            "orders/orders",
            "orders/events",
        ):
            assert instance.get_latest_materialization_event(dg.AssetKey(asset.split("/"))), asset

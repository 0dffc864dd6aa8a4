"""Write, audit, publish: only when every test has passed is the file replaced, in one step that no reader notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from deltalake import write_deltalake

from assets_tests.integration.conftest import FirstLoad
from assets_tests.support.exchange_lake import FIRST, LAST, SESSIONS, failed_checks
from assets_tests.support.patience import PATIENCE_S
from lakehouse import catalog
from lakehouse.api import Lake
from lakehouse.catalog import Descriptions, descriptions, source_named
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.errors import SourceError
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.warehouse import sources as connection
from lakehouse.warehouse.publish import AuditFailed, differing_marts, publish

# More rows than DuckDB reads ahead, so that a reader has to go back to its file.
_LONG = "SELECT a.close, b.session FROM marts.fct_daily_bar AS a, marts.fct_daily_bar AS b, range(200)"


def break_a_daily_bar() -> None:
    """Stores a daily bar of the first session whose high lies below its low, past every check of the lake."""
    table = Lake.open().table("xetra/daily_bars")
    year = FIRST.replace(month=1, day=1)
    high = pl.when((pl.col("session") == FIRST) & (pl.int_range(pl.len()) == 0)).then(pl.col("low") / 2)
    rows = table.scan().filter(year=year).sort("session").with_columns(high.otherwise(pl.col("high")).alias("high"))
    arrow = rows.collect().to_arrow().cast(table.contract.arrow_schema)
    write_deltalake(table.uri, arrow, mode="overwrite", predicate=f"year = '{year}'")


def test_a_failed_test_leaves_the_published_file_and_its_readers_alone(
    first_load: FirstLoad, instance: dg.DagsterInstance
) -> None:
    lake = first_load.lake
    published = lake.warehouse.read_bytes()
    break_a_daily_bar()
    with duckdb.connect(str(lake.warehouse), read_only=True) as reader:
        answer = reader.execute(_LONG)
        first = answer.fetchmany(10)
        result = lake.run(instance, LAST, LAST)
        rows = first + answer.fetchall()

    assert not result.success
    failed = failed_checks(result)
    assert "marts/fct_daily_bar fct_daily_bar_ranges" in failed
    assert not {name for name in failed if name.startswith("xetra/") and "contract" in name}
    told = next(event for event in result.all_events if event.is_step_failure).step_failure_data.user_failure_data
    assert told is not None
    assert str(told.description).startswith("Not published: a model or test failed")
    assert "fct_daily_bar_ranges" in str(told.metadata["failed"].value)
    assert lake.warehouse.read_bytes() == published
    assert len(rows) == 200 * first_load.lake.marts("SELECT count(*) FROM fct_daily_bar")[0][0] ** 2

    # A rebuild mends the lake, and the next publication goes through.
    assert rebuild(Lake.open(), source_named("xetra")).differs
    publish(settings())
    assert differing_marts(settings()) == []


def test_a_broken_yaml_holds_back_the_marts_and_not_the_loads_of_other_sources(
    first_load: FirstLoad, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, error = first_load.lake, SourceError("defs/binance/defs.yaml, line 7: first_session: Field required")
    (lake.home / "lake" / "binance" / "daily_bars").mkdir(parents=True)
    others = Descriptions({name: found for name, found in descriptions().found.items() if name != "binance"})
    monkeypatch.setattr(catalog, "descriptions", lambda: others)
    monkeypatch.setattr(connection, "faulty_files", lambda: {Path("defs.yaml"): error})
    published = lake.warehouse.read_bytes()
    lake.exchange.write(lake.feed, "corrected")
    loaded = lake.rows("ingest_ledger").height
    result = lake.run(instance)

    assert lake.rows("ingest_ledger").height == loaded + 1
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == "market_marts"
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert str(told.description).startswith(f"Not published: the marts would lose the rows of binance: {error}.")
    assert lake.warehouse.read_bytes() == published


def test_a_failure_outside_dagster_says_what_failed(first_load: FirstLoad) -> None:
    published = first_load.lake.warehouse.read_bytes()
    break_a_daily_bar()

    with pytest.raises(AuditFailed, match=r"^not published: .*fct_daily_bar_ranges"):
        publish(settings())
    assert first_load.lake.warehouse.read_bytes() == published


def test_a_reader_keeps_what_it_opened_during_a_publication(first_load: FirstLoad) -> None:
    lake, config = first_load.lake, source_named("xetra")
    before = lake.marts("SELECT count(*), sum(bar_count) FROM fct_daily_bar")
    with duckdb.connect(str(lake.warehouse), read_only=True) as reader:
        answer = reader.execute(_LONG)
        seen = len(answer.fetchmany(10))
        for stage in ("late", "repaired", "corrected"):
            lake.exchange.write(lake.feed, stage)  # type: ignore[arg-type]
        assert load(Lake.open(), config.bars, SESSIONS).rows_received > 0
        derive_bars(Lake.open(), config, SESSIONS)
        derive_daily_bars(Lake.open(), config, SESSIONS)
        publish(settings())
        seen += len(answer.fetchall())
        assert reader.execute("SELECT count(*), sum(bar_count) FROM marts.fct_daily_bar").fetchall() == before

    # Only now: connections of one process to one path share what the first of them opened.
    assert lake.marts("SELECT count(*), sum(bar_count) FROM fct_daily_bar") != before
    assert seen == 200 * before[0][0] ** 2


def test_two_publications_at_once_both_succeed(first_load: FirstLoad) -> None:
    lake = first_load.lake
    before = lake.marts("FROM fct_daily_bar ORDER BY ALL")
    program = """if True:
        from dbt.cli.main import dbtRunner
        from lakehouse.settings import settings
        from lakehouse.warehouse.publish import publish
        print("ready", flush=True)
        publish(settings())
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        publish(settings())
        _, errors = other.communicate(timeout=PATIENCE_S)
        assert other.returncode == 0, errors

    assert lake.marts("FROM fct_daily_bar ORDER BY ALL") == before
    assert sorted(path.name for path in (lake.home / "dbt" / "build").iterdir()) == ["warehouse.lock"]
    assert differing_marts(settings()) == []

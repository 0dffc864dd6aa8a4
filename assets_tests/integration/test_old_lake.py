"""Lakes that earlier releases wrote open, say what migration is due, are migrated, and go on: one of the release before
versions of contracts, and one of the last release whose volumes were whole numbers.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.old_lake import (
    DAY,
    FIRST_QUOTE_AT,
    KLINES,
    OBJECTS,
    WHOLE_VOLUMES,
    bar_line,
    put_daily,
    put_klines,
    put_object,
    write_old_lake,
)
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.cli.app import app
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.errors import TableOutdated
from lakehouse.ingest.load import load
from lakehouse.ingest.stale_readings import span_to_reload
from lakehouse.lake.maintenance import maintain
from lakehouse.lake.migration import due, migrate_table, stored_tables
from lakehouse.lake.releases import record_release, restore_tables
from lakehouse.lake.table import Pin


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the old lake was loaded from, as it was at last."""
    folder = tmp_path / "vendor"
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(folder))
    for hour, published_at, lines in OBJECTS:
        put_object(folder, hour, published_at, lines)
    return folder


@pytest.fixture
def lake() -> Lake:
    opened = Lake.open()
    write_old_lake(Path(opened.uri))
    return opened


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with whole volumes, those of binance in units of 1e-8, and the folders that it was loaded from."""
    for name, put in (("binance", put_klines), ("wiki", put_daily)):
        monkeypatch.setenv(f"LAKEHOUSE_{name.upper()}_URL", str(tmp_path / name))
        put(tmp_path / name)
    opened = Lake.open()
    write_old_lake(Path(opened.uri), WHOLE_VOLUMES)
    return opened


def migrate(lake: Lake) -> list[str]:
    """Brings every table to the present version of its contract, and returns which were not there yet."""
    tables = [table.name for table in due(lake)]
    for name in tables:
        migrate_table(lake, name)
    assert due(lake) == []
    return tables


WHOLE_TABLES = ["binance/bars", "binance/raw_bars", "wiki/official_daily", "wiki/raw_daily", "binance/daily_bars"]


def test_a_lake_with_whole_volumes_says_that_its_migration_is_due(whole: Lake) -> None:
    assert [table.name for table in due(whole)] == WHOLE_TABLES, "daily bars last: they are derived again"
    result = CliRunner().invoke(app, ["status"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "migration due: 5 tables of binance, wiki: run lakehouse migrate" in words
    with pytest.raises(TableOutdated, match="run `lakehouse migrate`"):
        whole.sql("SELECT sum(volume) FROM binance.bars")
    # The ledger is read even so.
    assert volumes(whole, "SELECT count(*) FROM lake.ingest_ledger") == [(5,)]


def test_a_damaged_table_does_not_keep_the_status_from_being_shown(whole: Lake) -> None:
    log = Path(whole.uri) / "binance" / "bars" / "_delta_log"
    os.truncate(max(log.glob("*.json")), 10)
    result = CliRunner().invoke(app, ["status"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert str(log) in result.output
    assert "nothing loaded: alpha_vantage" in result.output
    assert "marts: " in result.output


def test_volumes_are_migrated_to_the_vendors_unit_exactly_and_derived_again(whole: Lake) -> None:
    before = whole.table("ingest_ledger").to_polars()["ingested_at"].max()
    result = CliRunner().invoke(app, ["migrate", "--apply"])
    assert result.exit_code == 0, result.output
    assert due(whole) == []
    told = [float(line.split(",")[5]) for lines in KLINES.values() for line in lines]
    kept = sorted(volume for volume in told if volume < 1_000_000)
    assert [volume for (volume,) in volumes(whole, "SELECT volume FROM binance.raw_bars ORDER BY 1")] == kept
    as_of = Lake(whole.uri, as_of=before)
    for table in ("raw_bars", "bars", "daily_bars"):
        rows = f"SELECT * FROM binance.{table} ORDER BY ALL"
        assert volumes(as_of, rows) == volumes(whole, rows), "the lake knew the same then, in the present unit"
    assert volumes(whole, "SELECT volume FROM wiki.official_daily ORDER BY session") == [(18182800.0,), (18343800.0,)]
    for name in ("binance", "wiki"):
        assert not rebuild(whole, source_named(name), verify=True).differs


def test_rows_that_were_refused_for_their_volume_come_with_a_reload(whole: Lake) -> None:
    migrate(whole)
    source = source_named("binance")
    days = sorted({day for _, day in KLINES})
    assert sum(load(whole, source.bars, days).objects.values()) == 0, "nothing new has come"
    assert span_to_reload(whole, source.datasets) == (days[0], days[-1])
    load(whole, source.bars, days, reread=True)
    for table in source.tables:
        table.derive(whole, source, days)
    found = "SELECT open, high, low, close, volume, bar_count FROM binance.daily_bars WHERE symbol LIKE '{}%'"
    assert volumes(whole, found.format("DOGE")) == [(0.316, 0.33, 0.3, 0.325, 6_400_000.0, 3)]
    assert volumes(whole, found.format("PEPE")) == [(0.00002001, 0.0000201, 0.0000199, 0.00002005, 96_035_802_467.0, 2)]
    assert not rebuild(whole, source, verify=True).differs


def test_a_migration_stopped_between_two_tables_goes_on(whole: Lake) -> None:
    first, second, *_ = due(whole)
    migrate_table(whole, first.name)
    assert [table.name for table in due(whole)] == WHOLE_TABLES[1:]
    with pytest.raises(TableOutdated):
        migrate_table(whole, "binance/daily_bars")
    migrate_table(whole, second.name)
    with ThreadPoolExecutor(2) as two:
        made = list(two.map(lambda _: migrate_table(whole, "binance/daily_bars"), range(2)))
    assert sorted(made) == [0, 3], "one of the two has found nothing to do"
    assert migrate(whole) == ["wiki/official_daily", "wiki/raw_daily"]
    assert not rebuild(whole, source_named("binance"), verify=True).differs


def test_a_source_that_no_yaml_describes_is_not_migrated_by_guess(whole: Lake) -> None:
    """Nothing says in which unit its volumes are; other sources are migrated."""
    for name in ("raw_bars", "bars", "daily_bars"):
        shutil.move(f"{whole.uri}/binance/{name}", f"{whole.uri}/gone/{name}")
    result = CliRunner().invoke(app, ["migrate", "--apply"])
    words = " ".join(result.output.split())
    assert result.exit_code == 1
    for name in ("raw_bars", "daily_bars"):
        to = 3 if name == "daily_bars" else 2
        assert f"gone/{name}: version 1 to {to}: no defs.yaml that can be read describes gone" in words
    assert "wiki/raw_daily: 2 rows rewritten" in words
    assert {table.name for table in due(whole)} == {"gone/bars", "gone/daily_bars", "gone/raw_bars"}


def test_what_a_release_keeps_is_read_through_the_migrations(whole: Lake) -> None:
    pins = {table.name: Pin(table.stored().version) for table in stored_tables(whole)}
    migrate(whole)
    kept = whole.pinned(pins.get, None)
    for table in ("raw_bars", "bars", "daily_bars"):
        rows = f"SELECT symbol, volume FROM binance.{table} ORDER BY ALL"
        assert volumes(kept, rows) == volumes(whole, rows)
        assert kept.table(f"binance/{table}").to_polars().schema == whole.table(f"binance/{table}").to_polars().schema
    some = kept.table("binance/bars").snapshot().select({"session": [date(2025, 1, 2)]})
    with kept.connect() as connection:
        assert connection.execute(f"SELECT symbol, volume FROM ({some})").fetchall() == [("BTCUSDT", 20.70013)]


def volumes(lake: Lake, query: str) -> list[tuple[Any, ...]]:
    found = lake.sql(query)
    assert found is not None
    return found.fetchall()


def test_an_old_lake_is_read(lake: Lake, vendor: Path) -> None:
    assert {table.stored().contract_version for table in stored_tables(lake)} == {1}
    assert set(migrate(lake)) == {"xetra/raw_bars", "xetra/bars", "xetra/daily_bars"}
    for schema, table in lake.tables():
        assert lake.sql(f"SELECT count(*) FROM {schema}.{table}") is not None
    assert closes(lake) == [83.31, 83.3, 83.28, 83.5]
    before = Lake(lake.uri, as_of=lake.table("ingest_ledger").to_polars()["ingested_at"].sort()[1])
    assert closes(before) == [83.29, 83.3, 83.5]
    quotes = lake.table("iex/quotes").to_polars()
    assert quotes.sort("event_time")["latest_price"].to_list() == [150.0, 150.5, 300.25, 151.0]
    assert sorted(lake.table("quarantine").to_polars()["source"]) == ["iex", "xetra", "xetra"]


def test_an_old_lake_is_what_a_rebuild_gives(lake: Lake, vendor: Path) -> None:
    migrate(lake)
    found = rebuild(lake, source_named("xetra"), verify=True)
    assert (found.partitions, found.differs) == (1, False)
    assert not rebuild(lake, FeedLake().described, verify=True).differs


def test_what_an_old_lake_holds_is_not_loaded_again_and_more_goes_on_top(lake: Lake, vendor: Path) -> None:
    source = source_named("xetra")
    migrate(lake)

    def take() -> int:
        loaded = load(lake, source.bars, [DAY])
        derive_bars(lake, source, [DAY])
        derive_daily_bars(lake, source, [DAY])
        return sum(loaded.objects.values())

    def versions() -> dict[str, int | None]:
        return {table.name: table.stored().version for table in stored_tables(lake)}

    files = {table.name: table.stored().files() for table in stored_tables(lake)}
    assert take() == 0
    # The first derivation compares what an old lake holds, and notes what it is made from.
    assert {table.name: table.stored().files() for table in stored_tables(lake)} == files
    noted = versions()
    assert take() == 0
    assert versions() == noted
    put_object(vendor, "09", datetime(2017, 7, 10, tzinfo=UTC), [bar_line("09:00", "83.7"), bar_line("09:01", "83.8")])
    put_object(vendor, "10", datetime(2017, 7, 10, tzinfo=UTC), [bar_line("10:00", "84")])
    assert take() == 2
    assert closes(lake) == [83.31, 83.3, 83.28, 83.7, 83.8, 84.0]
    (daily,) = lake.table("xetra/daily_bars").to_polars().select("open", "close").rows()
    assert daily == (83.31, 84.0)

    feed = FeedLake()
    feed.restart()
    feed.tell([said("AAPL", FIRST_QUOTE_AT + timedelta(seconds=seconds), 152.0) for seconds in (90, 120)])
    quotes = lake.table("iex/quotes").to_polars().filter(pl.col("symbol") == "AAPL")
    assert quotes.height == 4, "the quote of second 90 is there already"

    maintain(lake, lake.config)
    assert not rebuild(lake, source, verify=True).differs
    assert not rebuild(lake, feed.described, verify=True).differs
    assert due(lake) == []


def test_a_release_made_before_a_migration_is_restored_as_the_present_contracts_say(lake: Lake, vendor: Path) -> None:
    source = source_named("xetra")
    release = record_release(lake, "before", None)
    migrate(lake)
    put_object(vendor, "10", datetime(2017, 7, 10, tzinfo=UTC), [bar_line("10:00", "84")])
    load(lake, source.bars, [DAY])
    derive_bars(lake, source, [DAY])
    derive_daily_bars(lake, source, [DAY])
    assert closes(lake)[-1] == 84.0
    # The second restoration is what completes one that was cut off.
    for _ in range(2):
        restore_tables(lake, release)
        assert due(lake) == []
        assert closes(lake) == [83.31, 83.3, 83.28, 83.5]
        assert not rebuild(lake, source, verify=True).differs


def closes(lake: Lake) -> list[float]:
    found = lake.sql("SELECT close FROM xetra.bars ORDER BY start_at")
    assert found is not None
    return [close for (close,) in found.fetchall()]

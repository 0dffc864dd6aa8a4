"""A lake that the release before versions of contracts wrote opens, is read, and goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from assets_tests.support.feed_lake import FeedLake, said
from assets_tests.support.old_lake import DAY, FIRST_QUOTE_AT, OBJECTS, bar_line, put_object, write_old_lake
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import load
from lakehouse.lake.maintenance import maintain
from lakehouse.lake.migration import due, stored_tables


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


def test_an_old_lake_is_read(lake: Lake, vendor: Path) -> None:
    assert due(lake) == []
    assert {table.stored().contract_version for table in stored_tables(lake)} == {1}
    for schema, table in lake.tables():
        assert lake.sql(f"SELECT count(*) FROM {schema}.{table}") is not None
    assert closes(lake) == [83.31, 83.3, 83.28, 83.5]
    before = Lake(lake.uri, as_of=lake.table("ingest_ledger").to_polars()["ingested_at"].sort()[1])
    assert closes(before) == [83.29, 83.3, 83.5]
    quotes = lake.table("iex/quotes").to_polars()
    assert quotes.sort("event_time")["latest_price"].to_list() == [150.0, 150.5, 300.25, 151.0]
    assert sorted(lake.table("quarantine").to_polars()["source"]) == ["iex", "xetra", "xetra"]


def test_an_old_lake_is_what_a_rebuild_gives(lake: Lake, vendor: Path) -> None:
    found = rebuild(lake, source_named("xetra"), verify=True)
    assert (found.partitions, found.differs) == (1, False)
    assert not rebuild(lake, FeedLake().described, verify=True).differs


def test_what_an_old_lake_holds_is_not_loaded_again_and_more_goes_on_top(lake: Lake, vendor: Path) -> None:
    source = source_named("xetra")

    def take() -> int:
        loaded = load(lake, source.bars, [DAY])
        derive_bars(lake, source, [DAY])
        derive_daily_bars(lake, source, [DAY])
        return sum(loaded.objects.values())

    versions = {table.name: table.stored().version for table in stored_tables(lake)}
    assert take() == 0
    assert {table.name: table.stored().version for table in stored_tables(lake)} == versions
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


def closes(lake: Lake) -> list[float]:
    found = lake.sql("SELECT close FROM xetra.bars ORDER BY start_at")
    assert found is not None
    return [close for (close,) in found.fetchall()]

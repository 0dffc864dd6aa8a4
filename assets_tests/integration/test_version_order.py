"""Of an object's versions the one that its source holds now wins, whatever modification times and clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from assets_tests.support.folder_source import DAY, PUBLISHED, FolderSource, bar_line
from lakehouse.api import Lake
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.derive import derive_bars
from lakehouse.domains.market.bars.status import status
from lakehouse.ingest.folder import Folder
from lakehouse.ingest.load import load
from lakehouse.lake import maintenance

OLDER = PUBLISHED - timedelta(days=30)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """An empty folder, and a lake that was never written."""
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path / "vendor"))
    (tmp_path / "vendor").mkdir()
    return FolderSource(tmp_path / "vendor")


def test_an_object_that_is_replaced_with_an_older_time_wins(source: FolderSource) -> None:
    source.put(bar_line(1, 10.0))
    source.take()
    source.put(bar_line(1, 11.0), bar_line(2, 11.0), at=OLDER)
    source.take()
    assert source.closes() == [11.0, 11.0]
    assert source.counts() == {"received": 3, "kept": 2, "duplicates": 0, "superseded": 1, "quarantined": 0}
    assert sum(source.take().objects.values()) == 0


def test_the_ledger_of_many_loads_lies_in_few_files(source: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every load opened the files of all loads before it, until the housekeeping of all tables."""
    monkeypatch.setattr(maintenance, "_MANY_FILES", 4)
    prices = [10.0 + number for number in range(12)]
    for number, price in enumerate(prices):
        source.put(bar_line(1, price), at=PUBLISHED + timedelta(days=number))
        load(source.lake, source.described.bars, [DAY])
        assert len(source.lake.table("ingest_ledger").snapshot().files({"source": ["xetra"]})) <= 4
    source.take()
    assert source.closes() == [prices[-1]]
    assert source.counts() == {"received": 12, "kept": 1, "duplicates": 0, "superseded": 11, "quarantined": 0}


def test_a_version_that_comes_back_counts_again(source: FolderSource) -> None:
    moments = []
    for price, at in ((10.0, PUBLISHED), (11.0, PUBLISHED + timedelta(days=1)), (10.0, PUBLISHED)):
        source.put(bar_line(1, price), at=at)
        source.take()
        assert source.closes() == [price]
        moments.append((datetime.now(UTC), price))
    assert sum(source.take().objects.values()) == 0
    ledger = source.lake.table("ingest_ledger").to_polars().sort("sequence")
    assert ledger["sequence"].to_list() == [1, 2, 3]
    assert ledger["object_version"][0] == ledger["object_version"][2] != ledger["object_version"][1]
    # What the version said before is not stored again.
    assert source.lake.table("xetra/raw_bars").to_polars().height == 2
    assert source.counts() == {"received": 3, "kept": 1, "duplicates": 1, "superseded": 1, "quarantined": 0}
    for moment, price in moments:
        assert source.closes(moment) == [price]


def test_an_object_that_is_replaced_while_it_is_loaded_stays_pending(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.put(bar_line(1, 10.0))
    source.put(bar_line(1, 20.0, hour=9), hour=9)
    fetch = Folder.fetch

    def then_replaced(store: Folder, path: str, tag: str | None) -> bytes:
        body = fetch(store, path, tag)
        if path.endswith("08.csv"):
            source.put(bar_line(1, 11.0), at=OLDER)
        return body

    monkeypatch.setattr(Folder, "fetch", then_replaced)
    loaded = source.take()
    monkeypatch.undo()
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(source.folder))
    assert (loaded.rows_received, source.closes()) == (1, [20.0])
    assert source.lake.table("xetra/raw_bars").to_polars()["close"].to_list() == [20.0]
    assert source.take().rows_received == 1
    assert source.closes() == [11.0, 20.0]


def test_a_failure_that_a_clock_ahead_recorded_ends_with_the_next_version(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=400)

    path = source.put(bar_line(1))
    path.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.ingest.load.datetime", Ahead)
        assert source.take().objects["failed"] == 1
    assert len(status(source.lake, source.described).failed_objects) == 1
    source.put(bar_line(1))
    source.take()
    found = status(source.lake, source.described)
    assert (found.failed_objects, found.objects) == ([], {"loaded": 1})


def test_what_a_clock_ahead_recorded_hides_nothing_that_comes_after_it(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=400)

    source.put(bar_line(1, 10.0))
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.ingest.load.datetime", Ahead)
        source.take()
    source.put(bar_line(1, 11.0), at=OLDER)
    source.take()
    source.put(bar_line(1, 10.0))
    source.take()
    assert source.closes() == source.closes(datetime.now(UTC)) == [10.0]


def written_by_an_earlier_release(lake: Lake) -> None:
    """Makes the ledger what it was before its entries were numbered."""
    table = lake.table("ingest_ledger")
    rows = table.to_polars().drop("sequence", "reading").with_columns(pl.col("object_version").str.replace(r"\+.*", ""))
    write_deltalake(table.uri, rows.to_arrow(), mode="overwrite", schema_mode="overwrite", partition_by=["source"])


def test_a_lake_from_before_keeps_its_rows_until_it_is_rebuilt(source: FolderSource) -> None:
    """Such a lake let the version with the latest modification time win."""
    source.put(bar_line(1, 10.0))
    source.take()
    source.put(bar_line(1, 11.0), at=OLDER)
    load(source.lake, source.described.bars, [DAY])
    written_by_an_earlier_release(source.lake)
    derive_bars(source.lake, source.described, [DAY])
    assert source.closes() == [10.0]
    assert sum(source.take().objects.values()) == 0
    assert (status(source.lake, source.described).rebuild_due, source.closes()) == (1, [10.0])
    before = datetime.now(UTC)

    verified = rebuild(source.lake, source.described, verify=True)
    assert (verified.objects_reordered, verified.differs, source.closes()) == (1, True, [10.0])
    assert rebuild(source.lake, source.described).objects_reordered == 1
    assert (source.closes(), source.closes(before)) == ([11.0], [10.0])
    assert status(source.lake, source.described).rebuild_due == 0
    assert not rebuild(source.lake, source.described, verify=True).differs
    source.counts()
    assert sum(source.take().objects.values()) == 0


def test_a_table_without_a_later_column_is_read_and_written(source: FolderSource) -> None:
    source.put(bar_line(1, 10.0))
    source.take()
    written_by_an_earlier_release(source.lake)
    table = source.lake.table("ingest_ledger")
    assert table.to_polars()["sequence"].to_list() == [None]
    found = source.lake.sql("SELECT sequence, reading FROM lake.ingest_ledger")
    assert found is not None
    assert found.fetchall() == [(None, None)]
    source.put(bar_line(1, 11.0), at=OLDER)
    source.take()
    assert source.closes() == [11.0]
    # The files differ in their columns now.
    assert sorted(table.to_polars()["sequence"].to_list(), key=str) == [1, None]
    found = source.lake.sql("SELECT sequence FROM lake.ingest_ledger ORDER BY ALL NULLS FIRST")
    assert found is not None
    assert found.fetchall() == [(None,), (1,)]
    assert table.at(0).scan().select("sequence").collect()["sequence"].null_count() <= 1
    source.counts()

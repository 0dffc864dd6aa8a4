"""Objects read by a wrong YAML are read again after its fix: as a new revision, that loses and invents nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.described import changed, with_bars
from assets_tests.support.folder_source import DAY, PUBLISHED, FolderSource, Killed, bar_line
from assets_tests.support.vendor_lake import DAYS, KEY, small_market, vendor_lake
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.market.bars.config import Calendar
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.status import status
from lakehouse.ingest import load as loading
from lakehouse.ingest.entered import QUARANTINE
from lakehouse.ingest.load import LoadResult, load
from lakehouse.ingest.stale_readings import span_to_reload
from lakehouse.simulators.vendor_api import VendorApi


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """A folder with one object of two bars, and a lake that was never written."""
    found = FolderSource.below(tmp_path, monkeypatch)
    found.put(bar_line(1), bar_line(2, 11.0))
    return found


def reload(source: FolderSource) -> LoadResult:
    loaded = load(source.lake, source.described.bars, [DAY], reread=True)
    derive_bars(source.lake, source.described, [DAY])
    derive_daily_bars(source.lake, source.described, [DAY])
    return loaded


def quarantined(as_of: datetime | None = None) -> int:
    found = Lake.open(as_of=as_of).sql("SELECT count(*) FROM lake.quarantine")
    assert found is not None
    return found.fetchone()[0]  # type: ignore[index]


def warned(source: FolderSource) -> bool:
    check = next(check for check in source.described.checks if check.name == "readings_current")
    return not check.run(source.lake, source.described, [DAY]).passed


def test_rows_that_a_wrong_column_sent_to_the_quarantine_are_read_again(source: FolderSource) -> None:
    right = source.described
    columns = {**right.config.bars.columns, "low": "TradedVolume"}
    source.described = with_bars(right, columns=columns)
    source.take()
    assert (source.closes(), quarantined(), warned(source)) == ([], 2, False)
    before = datetime.now(UTC)

    source.described = right
    assert (sum(source.take().objects.values()), source.closes()) == (0, [])
    assert (status(source.lake, right).read_otherwise, warned(source)) == (1, True)
    assert list(span_to_reload(source.lake, right.datasets)) == [DAY, DAY]
    assert not span_to_reload(source.lake, right.datasets, first=DAY + timedelta(days=1))

    assert reload(source).rows_received == 2
    assert (source.closes(), quarantined()) == ([10.0, 11.0], 0)
    assert source.counts() == {"received": 4, "kept": 2, "duplicates": 0, "superseded": 2, "quarantined": 0}
    assert (status(source.lake, right).read_otherwise, warned(source)) == (0, False)
    assert (source.closes(before), quarantined(before)) == ([], 2)
    assert not rebuild(source.lake, right, verify=True).differs
    assert sum(reload(source).objects.values()) == 0
    assert not span_to_reload(source.lake, right.datasets)


def test_bars_that_a_wrong_label_put_late_are_superseded(source: FolderSource) -> None:
    right = source.described
    time = right.config.bars.time.model_copy(update={"label": "end"})
    source.described = with_bars(right, time=time)
    source.take()
    source.described = right
    reload(source)
    found = source.lake.sql("SELECT strftime(start_at, '%H:%M') FROM xetra.bars ORDER BY ALL")
    assert found is not None
    assert found.fetchall() == [("08:01",), ("08:02",)]
    assert source.counts() == {"received": 4, "kept": 2, "duplicates": 0, "superseded": 2, "quarantined": 0}


def test_equal_rows_of_an_earlier_reading_are_superseded_not_duplicates(source: FolderSource) -> None:
    source.described = with_bars(source.described, nulls=("", "-"))
    source.take()
    source.described = source_named("xetra")
    reload(source)
    assert source.closes() == [10.0, 11.0]
    assert source.counts() == {"received": 4, "kept": 2, "duplicates": 0, "superseded": 2, "quarantined": 0}


def test_an_object_that_could_not_be_read_by_a_wrong_format_waits_for_a_reload(source: FolderSource) -> None:
    right = source.described
    source.described = with_bars(right, format="parquet")
    assert source.take().objects["failed"] == 1
    source.described = right
    assert status(source.lake, right).read_otherwise == 1
    assert reload(source).objects["loaded"] == 1
    found = status(source.lake, right)
    assert (found.objects, found.failed_objects, source.closes()) == ({"loaded": 1}, [], [10.0, 11.0])


def test_a_reload_that_finds_the_object_replaced_takes_the_new_version_once(source: FolderSource) -> None:
    source.described = with_bars(source.described, nulls=("", "-"))
    source.take()
    source.described = source_named("xetra")
    source.put(bar_line(1, 12.0), at=PUBLISHED - timedelta(days=1))
    assert reload(source).rows_received == 1
    assert (source.closes(), sum(source.take().objects.values())) == ([12.0], 0)
    source.counts()


@pytest.mark.parametrize("at", ["xetra/raw_bars", QUARANTINE, "ingest_ledger"])
def test_a_reload_that_is_killed_between_its_commits_is_completed_by_the_next(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    right = source.described
    source.put(bar_line(1), bar_line(2, 11.0), bar_line(3, -1.0))
    source.described = with_bars(right, columns={**right.config.bars.columns, "low": "TradedVolume"})
    source.take()
    source.described = right
    append_new_objects = loading.append_new_objects

    def killed_before(name: str) -> None:
        if name == at:
            raise Killed

    def append_rows(lake: Lake, name: str, *rest: Any) -> None:
        killed_before(name)
        append_new_objects(lake, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loading, "append_new_objects", append_rows)
        patch.setattr(loading, "_append_ledger", lambda *_: killed_before("ingest_ledger"))
        with pytest.raises(Killed):
            reload(source)
    before = datetime.now(UTC)
    refused = {"received": 3, "kept": 0, "duplicates": 0, "superseded": 0, "quarantined": 3}
    assert (source.closes(), quarantined(), source.counts()) == ([], 3, refused)
    assert status(source.lake, right).read_otherwise == 1

    assert reload(source).rows_received == 3
    assert (source.closes(), quarantined()) == ([10.0, 11.0], 1)
    assert source.counts() == {"received": 6, "kept": 2, "duplicates": 0, "superseded": 3, "quarantined": 1}
    assert [source.lake.table(name).to_polars().height for name in ("xetra/raw_bars", QUARANTINE)] == [2, 4]
    assert (source.closes(before), quarantined(before)) == ([], 3)
    assert not rebuild(source.lake, right, verify=True).differs


def test_a_reading_that_comes_back_counts_again_without_storing_its_rows_twice(source: FolderSource) -> None:
    right = source.described
    wrong = with_bars(right, columns={**right.config.bars.columns, "close": "MaxPrice", "high": "EndPrice"})
    source.put(bar_line(1, MaxPrice="12", EndPrice="12"), bar_line(2, MaxPrice="12.5"))
    source.take()
    for described, closes in ((wrong, [12.0]), (right, [12.0, 10.0])):
        source.described = described
        reload(source)
        assert source.closes() == closes
        source.counts()
    assert source.lake.table("xetra/raw_bars").to_polars().height == 3
    assert not rebuild(source.lake, right, verify=True).differs


def test_an_apis_answers_are_read_again_without_asking_it(tmp_path: Path) -> None:
    market = small_market(2)
    with vendor_lake(tmp_path / "home", VendorApi(market, api_key=KEY), market.symbols) as made:
        right = made.described
        made.described = with_bars(right, columns={**right.config.bars.columns, "high": "low", "low": "high"})
        made.update()
        refused, asked = made.rows("lake.quarantine").height, len(made.asked())
        made.described = right
        outdated = status(made.lake, right).read_otherwise
        span = span_to_reload(made.lake, right.datasets)
        assert refused > 0
        assert outdated == len(market.symbols) * 2

        loaded = load(made.lake, right.bars, span, reread=True)
        made.derive(DAYS)
        assert (loaded.objects["loaded"], made.rows("lake.quarantine").height) == (outdated, 0)
        assert made.rows("alpha_vantage.bars").height == loaded.rows_received
        assert len(made.asked()) == asked
        assert not span_to_reload(made.lake, right.datasets)
        totals = made.lake.sql(
            "SELECT sum(received), sum(kept), sum(superseded) FROM lake.conservation WHERE product = 'bars'"
        )
        assert totals is not None
        assert totals.fetchone() == (2 * loaded.rows_received, loaded.rows_received, loaded.rows_received)


def test_only_what_decides_the_rows_is_part_of_the_reading() -> None:
    source = source_named("xetra")
    reading, bars = source.bars.reading, source.config.bars
    assert bars.objects is not None
    objects = bars.objects.model_copy(update={"url": "/elsewhere"})
    same = [
        changed(source, minutes_after_close=5, first_session=DAY, description="other"),
        with_bars(source, objects=objects),
        with_bars(source, volume_unit_before=0.5),
        with_bars(source, columns=dict(reversed(bars.columns.items()))),
    ]
    assert {other.bars.reading for other in same} == {reading}
    others = [
        with_bars(source, columns={**bars.columns, "low": "MaxPrice"}),
        with_bars(source, constants={"vendor_id": "1"}),
        with_bars(source, nulls=("", "-")),
        with_bars(source, time=bars.time.model_copy(update={"label": "end"})),
        with_bars(source, volume="none"),
        with_bars(source, interval="5min"),
        with_bars(source, delimiter=";"),
        changed(source, identifier=None),
        changed(source, negative_prices=True),
        changed(source, calendar=Calendar(code="XNYS")),
    ]
    readings = {other.bars.reading for other in others}
    assert len(readings | {reading}) == len(others) + 1

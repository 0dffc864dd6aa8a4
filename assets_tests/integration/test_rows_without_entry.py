"""Rows that a load left behind when it was killed before its ledger was written: nothing reads them, a check counts
them, housekeeping removes them, and a load that is tried again makes them its own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from assets_tests.support.described import changed
from assets_tests.support.folder_source import DAY, FolderSource, Killed, bar_line
from lakehouse.ingest import load as loading
from lakehouse.ingest.entered import KEPT, remove_unentered
from lakehouse.ingest.load import load

BROKEN = bar_line(5, -1.0)
LATER = 2 * KEPT


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """A folder with one object, and a lake that was never written."""
    found = FolderSource.below(tmp_path, monkeypatch)
    found.put(bar_line(1), bar_line(2), BROKEN)
    return found


@pytest.fixture
def killed(source: FolderSource, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Loads the day and is killed between the commits of the rows and of the ledger."""

    def dies(*_: object, **__: object) -> None:
        raise Killed

    def run() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(loading, "_append_ledger", dies)
            with pytest.raises(Killed):
                load(source.lake, source.described.bars, [DAY])

    return run


def age(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Lets housekeeping and loads look at the lake that much later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + by

    monkeypatch.setattr("lakehouse.ingest.entered.datetime", Later)


def stored(source: FolderSource) -> tuple[int, int]:
    """Rows in the files of the raw table and of the quarantine."""
    names = ("xetra/raw_bars", "quarantine")
    return tuple(source.lake.table(name).to_polars().height for name in names)  # type: ignore[return-value]


def read(source: FolderSource) -> tuple[int, int]:
    """Rows that a query sees of them."""
    found = source.lake.sql("SELECT (SELECT count(*) FROM xetra.raw_bars), (SELECT count(*) FROM lake.quarantine)")
    assert found is not None
    return found.fetchone()  # type: ignore[return-value]


def counted(source: FolderSource, sessions: list[date] | None = None) -> int:
    check = next(check for check in source.described.checks if check.name == "rows_entered")
    finding = check.run(source.lake, source.described, sessions)
    assert finding.passed == (not finding.facts["rows_without_entry"])
    return finding.facts["rows_without_entry"]


def test_rows_of_a_killed_load_are_read_by_nothing_counted_and_removed(
    source: FolderSource, killed: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed()
    source.put(bar_line(1, 11.0), bar_line(2, 11.0), bar_line(3, 11.0), BROKEN, BROKEN)
    source.take()
    assert (stored(source), read(source)) == ((5, 3), (3, 2))
    assert (counted(source), counted(source, [DAY]), counted(source, [date(2017, 7, 6)])) == (3, 3, 0)
    assert source.counts() == {"received": 5, "kept": 3, "duplicates": 0, "superseded": 0, "quarantined": 2}

    assert remove_unentered(source.lake) == {}
    age(monkeypatch, LATER)
    assert remove_unentered(source.lake) == {"xetra/raw_bars": 2, "quarantine": 1}
    assert (stored(source), read(source), counted(source)) == ((3, 2), (3, 2), 0)
    assert remove_unentered(source.lake) == {}
    assert source.closes() == [11.0, 11.0, 11.0]


@pytest.mark.parametrize("later", [timedelta(0), LATER])
def test_a_load_that_is_tried_again_leaves_its_rows_once(
    source: FolderSource, killed: Callable[[], None], monkeypatch: pytest.MonkeyPatch, later: timedelta
) -> None:
    killed()
    age(monkeypatch, later)
    source.take()
    assert (stored(source), read(source), counted(source)) == ((2, 1), (2, 1), 0)
    remove_unentered(source.lake)
    assert stored(source) == (2, 1)
    # Rows that housekeeping might be about to remove are not taken over.
    taken_over = source.lake.table("xetra/raw_bars").snapshot().version == 1
    assert taken_over == (not later)


def test_rows_that_a_killed_load_read_by_other_rules_are_not_taken_over(
    source: FolderSource, killed: Callable[[], None]
) -> None:
    right = source.described
    source.described = changed(right, negative_prices=True)
    killed()
    source.described = right
    source.take()
    assert (read(source), len(source.closes())) == ((2, 1), 2)
    assert counted(source) == 3

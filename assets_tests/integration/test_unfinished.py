"""What is left to do for a source's sessions follows what happened to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from assets_tests.support.folder_source import DAY, FolderSource, bar_line
from lakehouse.derive.evaluation import evaluate
from lakehouse.derive.held_back import hold_back
from lakehouse.derive.unfinished import unfinished
from lakehouse.domains.market.bars.report import export_report
from lakehouse.ingest.load import load
from lakehouse.lake.sql import literal


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """A folder with an object, and a lake that was never written."""
    found = FolderSource.below(tmp_path, monkeypatch)
    found.put(bar_line(1), bar_line(2))
    return found


def days(source: FolderSource) -> list[date]:
    return source.described.calendar.between(DAY, DAY.replace(day=DAY.day + 1))


def left(source: FolderSource, said: str = "as described") -> list[date]:
    return unfinished(source.lake, source.described, days(source), said)


def derive(source: FolderSource, sessions: Sequence[date]) -> None:
    for table in source.described.tables:
        table.derive(source.lake, source.described, sessions)


def check(source: FolderSource, sessions: Sequence[date]) -> None:
    of, described = source.described.checks, source.described
    for table in dict.fromkeys(each.table for each in of):
        evaluate(source.lake, described, table, [each for each in of if each.table == table], sessions, "as described")


def finish(source: FolderSource) -> None:
    sessions = days(source)
    load(source.lake, source.described.bars, sessions)
    derive(source, sessions)
    check(source, sessions)
    export_report(source.lake, source.described, sessions)


def test_each_step_that_is_missing_leaves_something_to_do(source: FolderSource) -> None:
    sessions = days(source)
    assert DAY in left(source)
    load(source.lake, source.described.bars, sessions)
    assert DAY in left(source)
    derive(source, sessions)
    assert DAY in left(source)
    check(source, sessions)
    assert left(source) == [DAY]
    export_report(source.lake, source.described, sessions)
    assert left(source) == []


def test_what_happens_to_a_finished_session_is_found(source: FolderSource) -> None:
    finish(source)
    assert left(source, "described otherwise") == days(source)
    source.put(bar_line(1), bar_line(2), bar_line(3))
    assert left(source) == [DAY]
    finish(source)
    assert left(source) == []
    source.lake.table("xetra/bars").snapshot().delete(f"session = {literal(DAY)}")
    assert DAY in left(source)
    finish(source)
    hold_back(source.lake, "xetra", {("bars", "contract"): (False, "1 rule is broken")}, [DAY], lambda *_: (False, ""))
    assert left(source) == [DAY]


def test_a_report_that_was_deleted_is_written_again(source: FolderSource) -> None:
    finish(source)
    (report,) = [path for path in Path(source.described.report_url).rglob("*") if path.is_file()]
    report.unlink()
    assert left(source) == [DAY]

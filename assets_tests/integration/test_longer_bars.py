"""Bars of a longer interval as people ask for them: by SQL beside the table of that name, in Python, as of a moment,
and in a locked lake.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from assets_tests.support.minute_files import MinuteFiles
from lakehouse.api import Lake
from lakehouse.errors import TableMissing

DAY = date(2024, 3, 8)
MIDNIGHT = datetime(2024, 3, 8, tzinfo=UTC)


def minutes(first: int, last: int) -> list[datetime]:
    return [MIDNIGHT + timedelta(minutes=minute) for minute in range(first, last)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MinuteFiles:
    made = MinuteFiles.below(tmp_path, monkeypatch)
    made.put("BTC", DAY, minutes(0, 12))
    made.put("ETH", DAY, minutes(3, 7))
    made.take([DAY])
    return made


def rows(query: str, lake: Lake | None = None) -> list[tuple[object, ...]]:
    found = (lake or Lake.open()).sql(query)
    assert found is not None
    return found.fetchall()


@pytest.mark.parametrize(
    "call",
    [
        "minutes.bars(interval := '5min')",
        "minutes.bars(interval => '5min')",
        "MINUTES.BARS(INTERVAL := '5min')",
        '"minutes".bars("interval" := \'5min\')',
        "minutes.bars('5min')",
        "minutes.bars()",
    ],
)
def test_bars_of_an_interval_by_sql(files: MinuteFiles, call: str) -> None:
    found = rows(f"SELECT symbol, minute(start_at), minute(end_at), volume, bar_count FROM {call} ORDER BY ALL")
    assert found == [
        ("BTC", 0, 5, 35.0, 5), ("BTC", 5, 10, 35.0, 5), ("BTC", 10, 15, 14.0, 2),
        ("ETH", 0, 5, 14.0, 2), ("ETH", 5, 10, 14.0, 2),
    ]  # fmt: skip


def test_bars_of_an_interval_beside_the_stored_ones(files: MinuteFiles) -> None:
    query = """
        SELECT count(*), 'of interval := 1' FROM minutes.bars -- interval := '1min'
        UNION ALL SELECT count(*), "interval" FROM minutes.bars(interval := '1d') GROUP BY "interval"
    """
    assert sorted(rows(query)) == [(2, "1d"), (16, "of interval := 1")]


def test_bars_of_an_interval_as_of_a_moment_and_in_a_locked_lake(files: MinuteFiles) -> None:
    before = datetime.now(UTC)
    files.put("BTC", DAY, minutes(0, 3))
    files.take([DAY])
    query = "SELECT symbol, sum(bar_count) FROM minutes.bars(interval := '1h') GROUP BY symbol ORDER BY symbol"
    assert rows(query) == rows(query, Lake.open(locked=True)) == [("BTC", 3), ("ETH", 4)]
    assert rows(query, Lake.open(as_of=before)) == [("BTC", 12), ("ETH", 4)]


def test_bars_of_an_interval_in_python(files: MinuteFiles) -> None:
    found = files.lake.bars("minutes", "1h", symbols="ETH", start=DAY, end=DAY)
    assert found.project("symbol, bar_count, start_at, end_at").fetchall() == [
        ("ETH", 4, MIDNIGHT, MIDNIGHT + timedelta(hours=1))
    ]
    assert files.lake.bars("minutes", "1h", start="2024-03-09").fetchall() == []
    with pytest.raises(duckdb.InvalidInputException, match="interval '90s' is not a multiple of the stored bars' 60 s"):
        files.lake.bars("minutes", "90s").fetchall()
    with pytest.raises(TableMissing, match="has no source 'minuts'; it has minutes"):
        files.lake.bars("minuts", "1h")

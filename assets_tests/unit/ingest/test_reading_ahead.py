"""Which objects are loaded together."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from assets_tests.support.reference import HEADER
from lakehouse.catalog import source_named
from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.folder import Folder
from lakehouse.ingest.reading_ahead import Batch, read_ahead

LINE = "DE0005190003,BMW,BMW,Common stock,EUR,1,{day},08:{minute:02},1,1,1,1,1,1"


def objects(folder: Path, *rows: tuple[date, int]) -> list[ObjectVersion]:
    """An object for each (day, rows)."""
    found = []
    for number, (day, count) in enumerate(rows):
        path = folder / f"{number}.csv"
        lines = [LINE.format(day=day, minute=minute % 60) for minute in range(count)]
        path.write_text("\n".join([",".join(HEADER), *lines]) + "\n")
        at = datetime(2020, 1, 1, tzinfo=UTC)
        found.append(ObjectVersion(path.name, "1", path.stat().st_size, at, path.name, None, day, day, day, day))
    return found


def test_a_batch_ends_with_its_partition_or_at_twice_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.ingest.reading_ahead._BATCH_ROWS", 10)
    first, second, third = (date(2017, 7, day) for day in (10, 11, 12))
    found = objects(tmp_path, *[(first, 6)] * 3, *[(second, 4)] * 2, *[(third, 9)] * 4)
    batches = read_ahead(Folder(tmp_path), found, source_named("xetra").bars, lambda *_: None)
    days = [[item.first_day for item in batch.objects] for batch in batches if isinstance(batch, Batch)]
    assert days == [[first] * 3, [second] * 2 + [third] * 2, [third] * 2]


def test_small_objects_are_read_ahead_as_far_as_half_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the first batch to be taken; memory is bounded by packed bytes."""
    day = date(2017, 7, 10)
    fetched: list[str] = []
    found = objects(tmp_path, *[(day, 3)] * 40)

    class Counting(Folder):
        def fetch(self, path: str, tag: str | None):  # type: ignore[no-untyped-def]
            fetched.append(path)
            return super().fetch(path, tag)

    monkeypatch.setattr("lakehouse.ingest.reading_ahead._BATCH_ROWS", 3)
    monkeypatch.setattr("lakehouse.ingest.reading_ahead._AHEAD_BYTES", 10 * found[0].size)
    reading = read_ahead(Counting(tmp_path), found, source_named("xetra").bars, lambda *_: None)
    next(reading)
    assert 4 <= len(fetched) <= 13
    assert sum(1 for _ in reading) == 19
    assert sorted(fetched) == sorted(item.path for item in found)

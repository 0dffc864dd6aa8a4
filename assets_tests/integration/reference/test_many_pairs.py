"""A register of millions of pairs: loaded in bounded time and memory, and the next one by its differences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assets_tests.support.many_pairs import write_pairs
from assets_tests.support.reference_lake import rows, take
from assets_tests.support.soak import SOAKS
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive import by_partition
from lakehouse.derive.rebuild import rebuild

FIRST, SECOND = datetime(2024, 10, 28, 7, tzinfo=UTC), datetime(2024, 10, 29, 7, tzinfo=UTC)


@pytest.fixture
def place(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mappings"
    monkeypatch.setenv("LAKEHOUSE_GLEIF_MAPPINGS_URL", str(folder))
    return folder


def test_more_rows_than_fit_in_memory_are_derived_on_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_partition, "_IN_MEMORY_ROWS", 1_000)
    write_pairs(place, FIRST, 5_000)
    taken = take("gleif")["isins"]
    assert (taken.rows_received, taken.rows_quarantined) == (5_000, 0)
    write_pairs(place, SECOND, 5_000, changed=100)
    assert take("gleif")["isins"].rows_received == 5_000 + 100
    # Each ISIN that changed has a new pair, and an old one that ended.
    assert rows("SELECT published_on::VARCHAR, count(*) FROM gleif.published_isins GROUP BY 1 ORDER BY 1") == [
        ("2024-10-28", 5_000),
        ("2024-10-29", 200),
    ]
    assert rows("SELECT count(*), count(DISTINCT isin) FROM reference.lei_isin") == [(5_000, 5_000)]
    # What is large is compared on disk, too, before it is written again.
    source = described_source("gleif")
    assert not rebuild(Lake.open(), source, verify=True).differs
    days = [FIRST.date(), SECOND.date()]
    (table,) = [table for table in source.tables if table.name == "published_isins"]
    assert table.derive(Lake.open(), source, days, afresh=True).changed == frozenset()
    monkeypatch.setattr(by_partition, "_IN_MEMORY_ROWS", 1_000_000)
    assert not rebuild(Lake.open(), source, verify=True).differs


@pytest.mark.soak
@pytest.mark.skipif(not SOAKS, reason="takes minutes; run by `make soak`")
def test_all_pairs_are_loaded_in_a_minute_and_two_gigabytes(place: Path) -> None:
    write_pairs(place, FIRST, 9_100_000)
    first = _taken()
    assert first["rows"] == 9_100_000
    assert first["seconds"] <= 60
    assert first["megabytes"] <= 2_000
    write_pairs(place, SECOND, 9_100_000, changed=10_000)
    second = _taken()
    assert second["seconds"] <= 20
    assert second["megabytes"] <= 2_000
    assert rows("SELECT count(*) FROM gleif.published_isins WHERE published_on = DATE '2024-10-29'") == [(20_000,)]


def _taken() -> dict[str, float]:
    """What a process that loads what is new takes."""
    command = [sys.executable, "-m", "assets_tests.support.many_pairs"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found

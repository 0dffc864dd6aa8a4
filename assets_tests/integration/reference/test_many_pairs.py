"""A register of millions of pairs: loaded in bounded time and memory, and the next one by its differences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from assets_tests.support.many_pairs import write_pairs
from assets_tests.support.reference_lake import rows, take
from assets_tests.support.soak import ONLY_IN_A_SOAK
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive import by_partition
from lakehouse.derive.rebuild import rebuild
from lakehouse.domains.reference.resolution.gathering import gathered
from lakehouse.domains.reference.resolution.resolve import Times, resolve
from lakehouse.lake.sql import Relation, relation_of

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
@ONLY_IN_A_SOAK
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
    [(isin, lei)] = rows("SELECT isin, lei FROM reference.lei_isin ORDER BY isin LIMIT 1 OFFSET 5000000")
    begun = time.process_time()
    assert [answer.value for answer in Lake.open().resolve(isin, to="lei").answers] == [lei]
    assert isin in {answer.value for answer in Lake.open().resolve(lei, to="isin").answers}
    assert time.process_time() - begun <= 2


def test_resolve__reads_only_the_rows_of_identifiers_that_it_reaches(place: Path) -> None:
    write_pairs(place, FIRST, 2_000)
    take("gleif")
    write_pairs(place, SECOND, 2_000, changed=2)
    take("gleif")
    first, second, third = (lei for (lei,) in rows("SELECT DISTINCT lei FROM gleif.published_isins ORDER BY 1 LIMIT 3"))
    moved, _, stayed = (isin for (isin,) in rows("SELECT isin FROM reference.lei_isin ORDER BY 1 LIMIT 3"))
    lake = Lake.open()
    for isin, leis in ((moved, [second]), (stayed, [first])):
        assert [answer.value for answer in lake.resolve(isin, to="lei").answers] == leis
        said = rows(f"SELECT answer FROM reference.resolve('{isin}', target := 'lei')")
        assert said == [(lei,) for lei in leis]
    before = Times(date(2024, 10, 28), FIRST)
    assert [answer.value for answer in resolve(lake, moved, to="lei", times=before).answers] == [first]
    assert len(lake.resolve(second, to="isin").answers) == 6
    with lake.connect() as connection:
        connection.execute(f"CREATE TABLE seeds AS SELECT 'lei' AS scheme, '{third}' AS value, NULL AS market")
        found = gathered(lake, connection, Relation("seeds"), ["lei", "isin"])
        assert connection.execute(f"SELECT count(*), count(DISTINCT subject) FROM {found}").fetchone() == (4, 1)
        everything = relation_of(lake.select("reference/identifiers", connection))
        own = f"SELECT * FROM {everything} WHERE subject = '{third}'"
        assert connection.execute(f"FROM {found} EXCEPT ({own})").fetchall() == []


def _taken() -> dict[str, float]:
    """What a process that loads what is new takes."""
    command = [sys.executable, "-m", "assets_tests.support.many_pairs"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found

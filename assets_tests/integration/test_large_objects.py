"""An object with more rows than fit in memory is read in blocks, and leaves what an object leaves that is read at once.

Blocks are made small here, so that small objects have many of them.
"""

from __future__ import annotations

import csv
import gzip
import multiprocessing
import os
import re
import time
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.folder_source import DAY, FolderSource, bar_line
from assets_tests.support.reference import HEADER
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.derive import derive_bars
from lakehouse.ingest import load as loading
from lakehouse.ingest import parquet, plain_text, unpacked
from lakehouse.ingest import stage as receive
from lakehouse.ingest.discover import ObjectVersion
from lakehouse.ingest.formats import BlockReader, read_whole
from lakehouse.ingest.load import load
from lakehouse.settings import settings

TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "quarantine", "ingest_ledger")
LINES = [
    *(bar_line(minute, 10.0 + minute) for minute in range(30)),
    bar_line(31, TradedVolume="-1"),
    "cut,off",
    "",
    bar_line(32).replace("SIM AG", '"SIM AG'),
    *(bar_line(minute, 11.0) for minute in range(3)),
    bar_line(33, Date="2017-07-06"),
    *(bar_line(minute, 12.0) for minute in range(34, 60)),
]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """An empty folder, and a lake that was never written."""
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path / "vendor"))
    (tmp_path / "vendor").mkdir()
    return FolderSource(tmp_path / "vendor")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven lines a block, at most."""
    blocks_of(7, monkeypatch)


def blocks_of(lines: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(unpacked, "BLOCK_LINES", lines)
    patch.setattr(parquet, "BLOCK_LINES", lines)
    patch.setattr(unpacked, "_READ_BYTES", 300)
    patch.setattr(plain_text, "HEAD_BYTES", 300)


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    """The tables without the moments at which they were written."""
    found = {}
    for name in TABLES:
        table = lake.table(name)
        found[name] = (
            table.to_polars().drop("ingested_at", "run_id", "load_date", strict=False).sort(table.contract.key)
        )
    return found


@pytest.fixture
def at_once(source: FolderSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, pl.DataFrame]:
    """The tables after the lines were read at once."""
    source.put(*LINES)
    other = FolderSource(source.folder, lake=Lake(str(tmp_path / "at-once")))
    assert sum(other.take().objects.values()) == 1
    return contents(other.lake)


@pytest.mark.parametrize("lines", [2, 20])
def test_an_object_read_in_blocks_leaves_the_rows_of_one_read_at_once(
    lines: int, source: FolderSource, at_once: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks_of(lines, monkeypatch)
    loaded = source.take()
    assert (loaded.rows_received, loaded.rows_quarantined) == (len(LINES) - 1, 4)
    for name, frame in contents(source.lake).items():
        assert_frame_equal(frame, at_once[name], check_exact=True)
    assert source.counts()["received"] == len(LINES) - 1
    assert sum(source.take().objects.values()) == 0


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("commits", [0, 1, 4, 9])
def test_a_load_that_is_killed_between_two_blocks_goes_on_where_it_was(
    commits: int, source: FolderSource, at_once: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    append, done = loading.append_new_objects, iter(range(commits))

    def killed(*arguments: object) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt
        append(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loading, "append_new_objects", killed)
        with pytest.raises(KeyboardInterrupt):
            source.take()
    # No read counts the rows of an object that is not in the ledger.
    assert derive_bars(source.lake, source.described, [DAY]).rows == 0
    source.take()
    for name, frame in contents(source.lake).items():
        assert_frame_equal(frame, at_once[name], check_exact=True)


@pytest.mark.usefixtures("small_blocks")
def test_a_large_object_that_is_cut_leaves_no_row(source: FolderSource) -> None:
    path = source.put(*LINES)
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_suffix(".csv.gz").write_bytes(packed[:-9])
    loaded = source.take()
    assert loaded.objects == {"loaded": 0, "empty": 0, "failed": 1}
    assert "cut or damaged gzip file" in next(iter(loaded.errors.values()))
    assert source.lake.table("xetra/raw_bars").snapshot().files() == []


def test_an_object_that_unpacks_too_far_fails_with_the_reason(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source.put(*LINES)
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    source.put(bar_line(1, hour=9), hour=9)
    monkeypatch.setenv("LAKEHOUSE_OBJECT_MAX_BYTES", "1000")
    settings.cache_clear()
    loaded = source.take()
    assert loaded.objects == {"loaded": 1, "empty": 0, "failed": 1}
    assert "unpacks to more than 1,000 bytes" in next(iter(loaded.errors.values()))
    monkeypatch.delenv("LAKEHOUSE_OBJECT_MAX_BYTES")
    settings.cache_clear()
    assert source.take().objects == {"loaded": 1, "empty": 0, "failed": 0}


@pytest.mark.usefixtures("small_blocks")
def test_a_row_without_an_end_is_refused_by_itself(source: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "LONGEST_LINE", 1_000)
    endless = bar_line(1, SecurityDesc="x" * 2_000)
    source.put(bar_line(0), endless, bar_line(2), bar_line(3, SecurityDesc="y" * 800))
    source.take()
    assert source.counts() == {"received": 4, "kept": 3, "duplicates": 0, "superseded": 0, "quarantined": 1}
    (row,) = source.lake.table("quarantine").to_polars().rows(named=True)
    assert (row["row_number"], row["reasons"]) == (2, ["the row is longer than 1,000,000 bytes"])
    assert endless.startswith(row["row"].removesuffix("..."))


MONTH = "timestamp,open,high,low,close,volume\n" + "".join(
    f"2020-11-{day:02} 10:{minute:02}:00,{price},{price},{price},{price},100\n"
    for day in (4, 3, 2)
    for minute, price in ((3, 1.5), (2, 0), (1, 2.5))
)


@pytest.mark.parametrize("text", [MONTH, MONTH + "a,b\n", MONTH.replace("2020-11-02", "a,"), MONTH.partition("\n")[0]])
def test_parts_of_a_month_have_the_same_digests_in_blocks(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_named("alpha_vantage")
    days = [date(2020, 11, 2), date(2020, 11, 30)]
    item = ObjectVersion(
        "bars/2020-11/AAPL", "v", len(text), datetime(2020, 12, 1, tzinfo=UTC), "p", None, days[0], days[1], days[0],
        days[1], {"symbol": "AAPL", "adjusted": "false"},
    )  # fmt: skip
    lake = Lake.open()
    reader = BlockReader("p", BytesIO(gzip.compress(text.encode())), source.config.bars, 10**9)
    whole = read_whole(reader)
    assert whole is not None
    chunk = receive.Chunk(source.bars, [item], [whole], datetime.now(UTC))
    with lake.connect() as connection:
        wanted = receive.rows_of(chunk, connection, {}, None)
    blocks_of(2, monkeypatch)
    content = receive.BlockwiseObject(source.bars, item, reader, chunk.ingested_at, lake.connect)
    parts = content.parts({})
    assert [part.record() for part in parts] == wanted.ledger[0]["parts"]
    rows = list(content.rows(parts))
    assert sum(block.raw.num_rows for block in rows) == wanted.raw.num_rows
    assert sum(block.refused.num_rows for block in rows) == wanted.refused.num_rows
    # What is stored already is not stored again.
    known = {(item.name, part.part, part.digest): part for part in parts}
    assert not any(block.raw.num_rows for block in content.rows(content.parts(known)))


def _peak_of_load(home: str, vendor: str) -> None:
    os.environ.update(LAKEHOUSE_HOME=home, LAKEHOUSE_XETRA_URL=vendor)
    settings.cache_clear()
    loaded = load(Lake.open(), source_named("xetra").bars, [DAY])
    # The maximum of getrusage begins with that of the process which started this one.
    (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    (Path(home) / "peak").write_text(f"{loaded.rows_received} {peak_kb}")


@pytest.mark.soak
def test_memory_does_not_follow_the_unpacked_size(tmp_path: Path) -> None:
    """A megabyte of gzip with hundreds of megabytes of lines takes a gigabyte at most."""
    folder = tmp_path / "vendor" / str(DAY)
    folder.mkdir(parents=True)
    lines = "".join(f"{bar_line(minute)}\n" for minute in range(60))
    times = soak_count(100, 300) * 1_000_000 // len(lines)
    with gzip.open(folder / f"{DAY}_BINS_XETR08.csv.gz", "wt") as file:
        file.write(",".join(HEADER) + "\n")
        for _ in range(times):
            file.write(lines)
    home = tmp_path / "home"
    home.mkdir()
    process = multiprocessing.get_context("spawn").Process(
        target=_peak_of_load, args=(str(home), str(tmp_path / "vendor"))
    )
    process.start()
    process.join(300)
    rows, peak_kb = map(int, (home / "peak").read_text().split())
    assert rows == 60 * times
    assert peak_kb < 1_000_000


def test_very_many_malformed_rows_take_a_few_microseconds_each(source: FolderSource) -> None:
    """Millions of them were read slowly. The unit is what the csv module takes to split them: 6 now, 18 then."""
    lines = [f"{number},b" for number in range(150_000)]
    started = time.process_time()
    for line in lines:
        next(csv.reader([line], strict=True))
    unit = time.process_time() - started
    source.put(*lines)
    assert source.described.calendar.hours(DAY)
    started = time.process_time()
    loaded = load(source.lake, source.described.bars, [DAY])
    spent = time.process_time() - started
    assert (loaded.rows_received, loaded.rows_quarantined) == (len(lines), len(lines))
    assert spent < 11 * unit

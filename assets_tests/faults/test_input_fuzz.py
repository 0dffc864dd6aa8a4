"""Objects damaged in every way: no row is lost, none is invented, all are accounted for, and a repair heals the lake.

`make test` takes one object of each kind, `make soak` nine.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.mutations import KINDS, Kind
from assets_tests.support.reference import HEADER, csv_line, isin
from assets_tests.support.soak import soak_count
from lakehouse.api import Lake
from lakehouse.catalog import source_named
from lakehouse.derive.conservation import COUNTS
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.ingest.load import LoadResult, load

A_KIND = soak_count(1, 9)
HOURS = 22  # later ones are of the next day in Frankfurt
ROWS = 8
TABLES = ("xetra/raw_bars", "quarantine", "ingest_ledger", "xetra/bars", "xetra/daily_bars")
PLACE_AND_TIME = ("object", "object_version", "row_number", "published_at", "ingested_at")


@dataclass(frozen=True)
class Damaged:
    """An object: its kind of damage, its sound text, and the bytes that are sent in its place."""

    kind: str
    day: date
    hour: int
    text: bytes
    sent: bytes

    @property
    def what(self) -> Kind:
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        return f"{self.day}/{self.day}_BINS_XETR{self.hour:02}{self.what.suffix}"

    @property
    def plain(self) -> bytes:
        """The text that was sent, unpacked, in UTF-8, with line feeds."""
        data = gzip.decompress(self.sent) if self.sent.startswith(b"\x1f\x8b") else self.sent
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            data = data.decode("utf-16").encode()
        return (data if b"\n" in data else data.replace(b"\r", b"\n")).removeprefix(b"\xef\xbb\xbf")

    def lines(self) -> dict[int, str | None]:
        """The rows that were sent by their number, None where one is no text; read without the product."""
        _, *lines = self.plain.split(b"\n")
        return dict(enumerate((_decoded(line) for line in lines if line.strip()), start=1))

    def untouched(self) -> set[str]:
        """The sound rows that are sent as they were."""
        sent = {line for line in self.lines().values() if line is not None}
        return sent & set(self.text.decode().split("\n")[1:-1])


def _decoded(line: bytes) -> str | None:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        return None


def sound_text(day: date, hour: int) -> bytes:
    """A few minutes of two instruments."""
    rows = []
    for number in range(ROWS):
        price = 10 + number / 4
        rows.append(
            (
                isin(f"DE000SIM00{number % 2}"), f"S{number % 2}", "SIM AG", "Common stock", "EUR", "1", str(day),
                f"{hour:02}:{number // 2:02}", str(price), str(price + 0.5), str(price - 0.5), str(price), "100", "3",
            )
        )  # fmt: skip
    return "".join(f"{line}\n" for line in [",".join(HEADER), *map(csv_line, rows)]).encode()


@pytest.fixture(scope="module")
def objects() -> list[Damaged]:
    """Every kind in turn, on days of which each hour has one."""
    rng = random.Random(20170707)
    sessions = source_named("xetra").calendar.sessions
    found = []
    for number, kind in enumerate(list(KINDS) * A_KIND):
        day, hour = sessions[number // HOURS], number % HOURS
        text = sound_text(day, hour)
        found.append(Damaged(kind, day, hour, text, KINDS[kind].mutate(rng, text)))
    return found


@dataclass
class Vendor:
    """A folder that objects are put into, and a lake that takes them."""

    folder: Path
    lake: Lake
    sessions: list[date]

    def put(self, name: str, data: bytes, at: datetime) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (at.timestamp(),) * 2)

    def take(self) -> LoadResult:
        config = source_named("xetra")
        loaded = load(self.lake, config.bars, self.sessions)
        derive_bars(self.lake, config, self.sessions)
        derive_daily_bars(self.lake, config, self.sessions)
        return loaded

    def rows(self, table: str) -> pl.DataFrame:
        return self.lake.table(table).to_polars()

    def files(self) -> dict[str, bytes]:
        """Every file of the lake's tables."""
        root = Path(self.lake.uri)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def bars(self) -> list[pl.DataFrame]:
        """What was derived, without where it came from."""
        tables = (self.rows("xetra/bars"), self.rows("xetra/daily_bars"))
        return [rows.drop(*PLACE_AND_TIME, strict=False).sort(pl.all()) for rows in tables]


BEFORE, AFTER = datetime(2017, 9, 1, tzinfo=UTC), datetime(2017, 9, 2, tzinfo=UTC)


@pytest.fixture
def vendor(objects: list[Damaged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """The damaged objects, and an empty lake."""
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", str(tmp_path / "vendor"))
    found = Vendor(tmp_path / "vendor", Lake(str(tmp_path / "lake")), sorted({item.day for item in objects}))
    for item in objects:
        found.put(item.name, item.sent, BEFORE)
    return found


@pytest.mark.soak
def test_damaged_objects_lose_and_invent_nothing_and_are_healed_by_a_repair(
    objects: list[Damaged], vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(KINDS) >= 60
    loaded = vendor.take()
    assert sum(loaded.objects.values()) == len(objects)
    for item in objects:
        assert_accounted_for(item, vendor)
    assert_conserved(vendor.lake)

    # The same again changes no byte.
    files = vendor.files()
    assert sum(vendor.take().objects.values()) == 0
    assert vendor.files() == files

    # What is sent whole replaces what was damaged.
    for item in objects:
        repaired = gzip.compress(item.text, mtime=0) if item.what.suffix.endswith(".gz") else item.text
        vendor.put(item.name, repaired, AFTER)
    vendor.take()
    assert_conserved(vendor.lake)
    clean = Vendor(vendor.folder, Lake(str(tmp_path / "clean")), vendor.sessions)
    clean.take()
    assert clean.rows("xetra/bars").height == len(objects) * ROWS
    for healed, wanted in zip(vendor.bars(), clean.bars(), strict=True):
        assert_frame_equal(healed, wanted, check_exact=True)


def assert_accounted_for(item: Damaged, vendor: Vendor) -> None:
    """Each row that was sent is stored once, as it was sent, or refused with a reason."""
    about = f"{item.kind}: {item.name}"
    mine = pl.col("object") == item.name
    (entry,) = vendor.rows("ingest_ledger").filter(mine).rows(named=True)
    raw = vendor.rows("xetra/raw_bars").filter(mine).rows(named=True)
    refused = vendor.rows("quarantine").filter(mine).rows(named=True)
    if item.what.outcome != "either":
        assert (entry["status"] == "failed") == (item.what.outcome == "failed"), about
    if entry["status"] == "failed":
        assert item.name in entry["error"], about
        assert not raw, about
        assert not refused, about
        return
    lines = item.lines()
    numbers = sorted([row["row_number"] for row in raw] + [row["row_number"] for row in refused])
    assert entry["rows_received"] == len(lines), about
    assert numbers == list(lines), about
    assert all(row["reasons"] for row in refused), about
    for row in raw:
        line = lines[row["row_number"]]
        assert line is not None, about
        assert says(line, item) == stored(row), about
    kept = {lines[row["row_number"]] for row in raw}
    if item.what.outcome == "rows" and item.kind != "columns in another order":
        assert item.untouched() <= kept, about
    if item.kind == "columns in another order":
        assert len(raw) == ROWS, about


def says(line: str, item: Damaged) -> tuple[Any, ...]:
    """What a row says, read by the standard library alone."""
    header = item.plain.partition(b"\n")[0]
    names = HEADER if item.what.suffix.endswith(".gz") else header.decode().rstrip("\r").split(",")
    row = dict(zip(names, next(csv.reader([line], strict=True)), strict=True))
    start = datetime.strptime(f"{row['Date']} {row['Time']}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    prices = tuple(float(row[name]) for name in ("StartPrice", "MaxPrice", "MinPrice", "EndPrice"))
    texts = tuple(row[name] or None for name in ("ISIN", "Mnemonic", "SecurityDesc", "Currency"))
    trades = row["NumberOfTrades"]
    return (*texts, start, *prices, float(row["TradedVolume"]), float(trades) if trades else None)


def stored(row: dict[str, Any]) -> tuple[Any, ...]:
    texts = (row["instrument_id"], row["symbol"], row["name"], row["currency"])
    prices = tuple(row[name] for name in ("open", "high", "low", "close"))
    return (*texts, row["start_at"], *prices, row["volume"], row["trades"])


def assert_conserved(lake: Lake) -> None:
    found = lake.sql("FROM lake.conservation")
    assert found is not None
    for row in found.pl().iter_rows(named=True):
        assert row["received"] == sum(row[name] for name in COUNTS[1:]), row
    totals = {name: int(found.pl()[name].sum()) for name in COUNTS}
    ledger = lake.table("ingest_ledger").to_polars()
    assert totals["received"] == ledger["rows_received"].sum()
    assert totals["kept"] == lake.table("xetra/bars").to_polars().height

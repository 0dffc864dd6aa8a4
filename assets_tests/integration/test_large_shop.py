"""A shop with ten times the lines of the real data set: a load is bounded in time and memory, and so is a late day."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assets_tests.support.soak import SOAKS, soak_count
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.ingest.load import load
from lakehouse.simulators.shop import COLUMNS

FIRST, DAYS = date(2010, 1, 1), soak_count(40, 3_600)
LINES_A_DAY, CODES, CUSTOMERS = 1_500, soak_count(300, 4_000), 4_000
CORES = 2
"""A minute on two cores is two minutes of processor time, which counts, since other work doesn't change it much."""
LATE = FIRST + timedelta(days=DAYS // 2)


def write_day(folder: Path, day: date, chance: np.random.Generator, count: int = LINES_A_DAY) -> None:
    """A day of invented lines; each code has a price that changes now and then."""
    codes, customers = chance.integers(0, CODES, count), chance.integers(0, CUSTOMERS * 4 // 3, count)
    prices = 100 + (codes * 37 + (day.toordinal() // 60) * (codes % 7)) % 900
    invoices = 500_000 + (day - FIRST).days * 100 + np.sort(chance.integers(0, 100, count))
    minutes = np.sort(chance.integers(480, 1_100, count))
    is_cancelled = chance.random(count) < 0.02
    pl.DataFrame(
        {
            "InvoiceNo": [f"{'C' if c else ''}{n}" for n, c in zip(invoices, is_cancelled, strict=True)],
            "StockCode": [f"{20_000 + code}" for code in codes],
            "Description": [f"ITEM {code}" for code in codes],
            "Quantity": chance.integers(1, 12, count) * np.where(is_cancelled, -1, 1),
            "InvoiceDate": [f"{day} {minute // 60:02d}:{minute % 60:02d}:00" for minute in minutes],
            "UnitPrice": prices / 100,
            "CustomerID": [f"{12_000 + each}.0" if each < CUSTOMERS else None for each in customers],
            "Country": "France",
        }
    ).select(COLUMNS).write_csv(folder / f"{day}.csv")


@dataclass(frozen=True)
class Cost:
    """What a process took to bring its lines into the lake; the seconds are those of the processor."""

    rows: int
    seconds: float
    peak_mb: int


def _take(home: str, feed: str, result: str, last: date) -> None:
    os.environ |= {"LAKEHOUSE_HOME": home, "LAKEHOUSE_RETAIL_URL": feed}
    lake, source = Lake.open(), described_source("retail")
    months = source.datasets[0].partitioning.between(FIRST, last)
    loaded = load(lake, source.datasets[0], months)
    for table in source.tables:
        table.derive(lake, source, months)
    seconds = time.process_time()
    (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    Path(result).write_text(f"{loaded.rows_received} {seconds} {int(peak_kb) // 1024}")


def cost_of_taking(tmp_path: Path) -> Cost:
    """Takes what the shop has in a process of its own, whose memory counts from zero."""
    result = tmp_path / "cost"
    # The child doesn't know that this is a soak: the test's environment was cleared.
    child = multiprocessing.get_context("spawn").Process(
        target=_take,
        args=(str(tmp_path / "home"), str(tmp_path / "feed"), str(result), FIRST + timedelta(days=DAYS)),
    )
    child.start()
    child.join(600)
    assert child.exitcode == 0
    rows, seconds, peak_mb = result.read_text().split()
    return Cost(int(rows), float(seconds), int(peak_mb))


@pytest.mark.soak
def test_ten_years_load_within_bounds_and_a_late_day_costs_little(tmp_path: Path) -> None:
    (tmp_path / "feed").mkdir()
    (tmp_path / "home" / "lake").mkdir(parents=True)
    chance = np.random.default_rng(1)
    days = [FIRST + timedelta(days=number) for number in range(DAYS)]
    for day in days:
        if day != LATE:
            write_day(tmp_path / "feed", day, chance)
    first = cost_of_taking(tmp_path)
    assert first.rows == (DAYS - 1) * LINES_A_DAY
    write_day(tmp_path / "feed", LATE, chance, count=200)
    late = cost_of_taking(tmp_path)
    assert late.rows == 200
    print(f"all: {first}, a late day: {late}")
    assert first.peak_mb < 2_048
    assert late.peak_mb < 1_024
    if SOAKS:
        assert first.seconds < 60 * CORES
        assert late.seconds < 8 * CORES

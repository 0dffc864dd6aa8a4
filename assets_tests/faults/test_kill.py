"""Runs that are killed at any moment and started again leave the tables as an undisturbed run leaves them."""

from __future__ import annotations

import random
import signal
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.support.processes import WORKERS
from assets_tests.support.soak import SOAKS, soak_count
from assets_tests.support.writers import load_and_die
from lakehouse.api import Lake
from lakehouse.simulators.exchange import Exchange

# Four weeks in a soak, otherwise the two halves of a few days. A month's end and a Saturday lie between two of them.
FIRST, LAST = (date(2017, 6, 19), date(2017, 7, 14)) if SOAKS else (date(2017, 6, 29), date(2017, 7, 4))
DAYS = [FIRST + timedelta(days) for days in range((LAST - FIRST).days + 1)]
SESSIONS = [day for day in DAYS if day.weekday() < 5]
AT_ONCE = soak_count(2, 5)
STRETCHES = [SESSIONS[start : start + AT_ONCE] for start in range(0, len(SESSIONS), AT_ONCE)]
TABLES = ("xetra/raw_bars", "xetra/bars", "xetra/daily_bars", "ingest_ledger", "quarantine")
KILLS, KILLS_A_LAKE = soak_count(6, 50), soak_count(6, 8)


def start(home: Path, vendor: Path, die_at: int | None = None, after: bool = False) -> Any:
    variables = {"LAKEHOUSE_HOME": str(home), "LAKEHOUSE_XETRA_URL": str(vendor)}
    process = WORKERS.Process(target=load_and_die, args=(variables, STRETCHES, die_at, after))
    process.start()
    return process


def finish(process: Any) -> int:
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated feed with all its dirt: broken rows, a cut object, bars on a Saturday, header-only objects."""
    folder = tmp_path_factory.mktemp("vendor")
    opens = {day: datetime(day.year, day.month, day.day, 7, tzinfo=UTC) for day in SESSIONS}
    hours = [(day, opening, opening + timedelta(hours=2)) for day, opening in opens.items()]
    Exchange(hours, seed=3, instruments=6, compress=False).write(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(vendor: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pl.DataFrame], float]:
    """The tables as a run that nobody kills leaves them, and the seconds that it took."""
    home = tmp_path_factory.mktemp("undisturbed")
    begun = time.monotonic()
    assert finish(start(home, vendor)) == 0
    lake = Lake(str(home / "lake"))
    found = contents(lake)
    assert set(found["ingest_ledger"]["status"]) == {"loaded", "empty", "failed"}
    assert found["quarantine"].height > 8
    return found, time.monotonic() - begun


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every table's rows in the order of their key, without what differs from run to run."""
    found = {}
    for name in TABLES:
        frame = lake.table(name).to_polars()
        key = [column for column in lake.table(name).contract.key if column in frame.columns]
        found[name] = frame.drop("ingested_at", "run_id", "load_date", strict=False).sort(key)
    return found


def assert_whole(home: Path, vendor: Path, wanted: dict[str, pl.DataFrame]) -> None:
    assert finish(start(home, vendor)) == 0
    found = contents(Lake(str(home / "lake")))
    for name in TABLES:
        assert_frame_equal(found[name], wanted[name], check_exact=True)


@pytest.mark.soak
def test_runs_killed_again_and_again_at_random_moments(
    vendor: Path, undisturbed: tuple[dict[str, pl.DataFrame], float], tmp_path: Path
) -> None:
    """Each kill comes at some moment of a run that goes on from what the killed one before it left."""
    tables, life = undisturbed
    moments = random.Random(1)
    killed, lakes = 0, 0
    while killed < KILLS:
        home = tmp_path / str(lakes)
        for _ in range(KILLS_A_LAKE):
            process = start(home, vendor)
            process.join(moments.uniform(0.05, life / 2))
            process.kill()
            if finish(process) == 0:
                break
            killed += 1
        assert_whole(home, vendor, tables)
        lakes += 1


@pytest.mark.soak
@pytest.mark.parametrize(("die_at", "after"), [(1, True), (2, False)], ids=["behind it", "before the next"])
def test_a_run_killed_at_every_commit(
    die_at: int, after: bool, vendor: Path, undisturbed: tuple[dict[str, pl.DataFrame], float], tmp_path: Path
) -> None:
    """Every run lives for one commit more: it dies right behind it, or when it has made the next one's table."""
    tables, _ = undisturbed
    deaths = 0
    while finish(start(tmp_path, vendor, die_at, after)) != 0:
        deaths += 1
        assert deaths < 60, "runs make no progress"
    # Each stretch is written to raw_bars, ledger, bars and daily_bars, and where it has dirt to the quarantine.
    assert deaths >= 4 * len(STRETCHES)
    assert_whole(tmp_path, vendor, tables)
